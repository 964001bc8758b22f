//! Tiles: the stored form of the tree, 256 hashes each (C2SP tlog-tiles).
//!
//! The hash at position i of tile n on level l is the root over the leaves from `(n * 256 + i) * 256^l` on, `256^l` of
//! them. Levels between two tile levels are not stored: they are recomputed from one tile.

use std::fmt;

use thiserror::Error;

use crate::hash::{Hash, TreeSize};

/// Tree levels per tile level.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes in a full tile: `2^TILE_HEIGHT`.
pub const TILE_WIDTH: u16 = 256;
/// The highest level that a path may name (C2SP tlog-tiles). Trees of up to 2^63 leaves need no more than level 7.
pub const MAX_TILE_LEVEL: u8 = 63;

/// Digits in each element of a tile index in a path.
const INDEX_GROUP: u64 = 1000;
/// The longest path this module writes or reads: the prefix, a level, seven index elements, a width.
const MAX_PATH_LEN: usize = "tile/63/x018/x446/x744/x073/x709/x551/615.p/255".len();

/// Where a hash stands in its row: which tile, and the position inside it.
#[must_use]
pub const fn split_index(index: u64) -> (u64, u8) {
    let [.., position] = index.to_be_bytes();
    (index >> TILE_HEIGHT, position)
}

/// How many complete nodes, each over `256^level` leaves, a tree has.
#[must_use]
pub fn row_len(size: TreeSize, level: u8) -> u64 {
    size.0
        .checked_shr(u32::from(level) * TILE_HEIGHT)
        .unwrap_or(0)
}

/// One hash to store after an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileWrite {
    /// The tile level: 0 for leaf hashes.
    pub level: u8,
    /// The tile's index in its level.
    pub tile: u64,
    /// The position in the tile. A tile is filled from position 0 on without gaps.
    pub position: u8,
    /// The hash to store there; it never changes again.
    pub hash: Hash,
}

impl TileWrite {
    /// The write of the `index`-th node of a tile level.
    pub(super) const fn at(level: u8, index: u64, hash: Hash) -> Self {
        let (tile, position) = split_index(index);
        Self {
            level,
            tile,
            position,
            hash,
        }
    }
}

/// The coordinates of a tile, and how many of its hashes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    pub(super) level: u8,
    pub(super) index: u64,
    /// 1 to [`TILE_WIDTH`].
    pub(super) width: u16,
}

impl Tile {
    /// The first `width` hashes of tile `index` on `level`.
    ///
    /// # Errors
    /// [`TileError`] unless the level is at most [`MAX_TILE_LEVEL`] and the width 1 to [`TILE_WIDTH`].
    pub fn new(level: u8, index: u64, width: u16) -> Result<Self, TileError> {
        if level > MAX_TILE_LEVEL {
            return Err(TileError::Level);
        }
        if !(1..=TILE_WIDTH).contains(&width) {
            return Err(TileError::Width);
        }
        Ok(Self {
            level,
            index,
            width,
        })
    }

    /// The tile level: 0 for leaf hashes.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// The tile's index in its level.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes: 1 to [`TILE_WIDTH`].
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Whether the tile has fewer than [`TILE_WIDTH`] hashes.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.width < TILE_WIDTH
    }

    /// The path under the log's prefix: `tile/<L>/<N>[.p/<W>]` (C2SP tlog-tiles, "Merkle Tree").
    #[must_use]
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// Reads what [`Tile::path`] writes.
    ///
    /// # Errors
    /// [`TileError::Path`] for anything else: one tile has exactly one path.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        if path.len() > MAX_PATH_LEN {
            return Err(TileError::Path);
        }
        let (tile, width) = match path.split_once(".p/") {
            Some((tile, width)) => (tile, width.parse().map_err(|_| TileError::Path)?),
            None => (path, TILE_WIDTH),
        };
        let (level, groups) = tile
            .strip_prefix("tile/")
            .and_then(|rest| rest.split_once('/'))
            .ok_or(TileError::Path)?;
        let level = level.parse().map_err(|_| TileError::Path)?;
        let index = groups.split('/').try_fold(0_u64, |index, group| {
            let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
            index.checked_mul(INDEX_GROUP)?.checked_add(digits)
        });
        let parsed =
            Self::new(level, index.ok_or(TileError::Path)?, width).map_err(|_| TileError::Path)?;
        // Signs, missing or superfluous zeros and `x` marks, and a full tile written as a partial one all end here.
        if parsed.path() == path {
            Ok(parsed)
        } else {
            Err(TileError::Path)
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = format!("{:03}", self.index % INDEX_GROUP);
        let mut rest = self.index / INDEX_GROUP;
        while rest > 0 {
            groups = format!("x{:03}/{groups}", rest % INDEX_GROUP);
            rest /= INDEX_GROUP;
        }
        write!(f, "tile/{}/{groups}", self.level)?;
        if self.is_partial() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// All tiles of a tree of this size, level by level, each level's partial tile last (C2SP tlog-tiles, "Partial Tiles").
pub fn tiles_of_size(size: TreeSize) -> impl Iterator<Item = Tile> {
    (0..=MAX_TILE_LEVEL)
        .take_while(move |level| row_len(size, *level) > 0)
        .flat_map(move |level| {
            let (full, partial) = split_index(row_len(size, level));
            let full_tiles = (0..full).map(move |index| Tile {
                level,
                index,
                width: TILE_WIDTH,
            });
            let partial_tile = (partial > 0).then_some(Tile {
                level,
                index: full,
                width: u16::from(partial),
            });
            full_tiles.chain(partial_tile)
        })
}

/// Why something names no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TileError {
    /// Levels end at [`MAX_TILE_LEVEL`].
    #[error("a tile level is at most {MAX_TILE_LEVEL}")]
    Level,
    /// Empty tiles do not exist, and none is wider than [`TILE_WIDTH`].
    #[error("a tile has 1 to {TILE_WIDTH} hashes")]
    Width,
    /// Not the path of a tile.
    #[error("not a tile path; write tile/<level>/<index>, with .p/<width> for a partial tile")]
    Path,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_tlog_tiles() {
        let path = |level, index, width| Tile::new(level, index, width).unwrap().path();
        assert_eq!(path(0, 0, 256), "tile/0/000");
        assert_eq!(path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(2, 1_000, 1), "tile/2/x001/000.p/1");
        assert_eq!(path(63, u64::MAX, 255).len(), MAX_PATH_LEN);
        assert_eq!(
            Tile::parse(&path(63, u64::MAX, 255)).map(|tile| tile.index()),
            Ok(u64::MAX)
        );
    }

    #[test]
    fn a_tile_has_no_second_path() {
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/0/001/x001",
            "tile/0/001/001",
            "tile/0/x001",
            "tile/0/x001/1",
            "tile/0/+01",
            "tile/0/-01",
            "tile/00/001",
            "tile/+0/001",
            "tile/64/001",
            "tile/256/001",
            "tile/0/001.p/0",
            "tile/0/001.p/256",
            "tile/0/001.p/05",
            "tile/0/001.p/",
            "tile/0/001.p/5.p/5",
            "tile/entries/001",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/00\u{660}",
        ] {
            assert_eq!(Tile::parse(path), Err(TileError::Path), "{path}");
        }
    }

    #[test]
    fn limits_are_errors_one_past_them() {
        assert_eq!(Tile::new(64, 0, 1), Err(TileError::Level));
        assert_eq!(Tile::new(0, 0, 0), Err(TileError::Width));
        assert_eq!(Tile::new(0, 0, 257), Err(TileError::Width));
        assert!(Tile::new(63, u64::MAX, 256).is_ok());
    }

    #[test]
    fn size_70000_has_the_tiles_of_the_specification() {
        let tiles: Vec<Tile> = tiles_of_size(TreeSize(70_000)).collect();
        let on = |level, partial| {
            tiles
                .iter()
                .filter(|tile| tile.level() == level && tile.is_partial() == partial)
                .count()
        };
        assert_eq!((on(0, false), on(0, true)), (273, 1));
        assert_eq!((on(1, false), on(1, true)), (1, 1));
        assert_eq!((on(2, false), on(2, true)), (0, 1));
        let partial: Vec<String> = tiles
            .iter()
            .filter(|tile| tile.is_partial())
            .map(Tile::path)
            .collect();
        assert_eq!(
            partial,
            ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
        );
        assert_eq!(tiles.len(), 277);
    }

    #[test]
    fn size_256_is_a_full_tile_and_one_above_it() {
        let paths: Vec<String> = tiles_of_size(TreeSize(256))
            .map(|tile| tile.path())
            .collect();
        assert_eq!(paths, ["tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(tiles_of_size(TreeSize(0)).count(), 0);
    }

    proptest! {
        #[test]
        fn paths_round_trip(level in 0..=MAX_TILE_LEVEL, index in any::<u64>(), width in 1..=TILE_WIDTH) {
            let tile = Tile::new(level, index, width).unwrap();
            prop_assert_eq!(Tile::parse(&tile.path()), Ok(tile));
        }

        #[test]
        fn what_parses_prints_the_same(path in "tile/[0-9]{1,2}/(x?[0-9]{1,3}/){0,2}[0-9]{1,3}(\\.p/[0-9]{1,3})?") {
            if let Ok(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.path(), path);
            }
        }

        #[test]
        fn any_text_is_parsed_without_panicking(path in any::<String>()) {
            prop_assert!(Tile::parse(&path).is_err());
        }
    }
}
