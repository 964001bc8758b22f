//! Refuses text that nests so deep that a recursive parser would overflow its stack.
//!
//! A stack overflow ends the process and cannot be caught, and the parsers of Cedar and Dogwood recurse. So their
//! input is measured here first, without recursion: brackets outside strings and comments, and the operators of a
//! statement, each of which may become one level of recursion even without a bracket (`!!!!x`, `a && b && c`,
//! `if … else if …`).

use crate::limits::{MAX_SOURCE_DEPTH, MAX_SOURCE_OPERATORS};

/// Where and how a text is too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NestingError {
    /// Too many open brackets.
    #[error("brackets nest deeper than {MAX_SOURCE_DEPTH}")]
    TooDeep {
        /// The line, from 1.
        line: usize,
    },
    /// Too many operators before a `;`.
    #[error("one statement has more than {MAX_SOURCE_OPERATORS} operators")]
    TooLong {
        /// The line, from 1.
        line: usize,
    },
}

impl NestingError {
    /// The line on which the limit was passed, from 1.
    pub(crate) fn line(self) -> usize {
        match self {
            Self::TooDeep { line } | Self::TooLong { line } => line,
        }
    }
}

/// Measures rule or schema text (Cedar or Dogwood: comments start with `//`).
///
/// # Errors
/// If brackets or operators pass their limits.
pub(crate) fn check_nesting(text: &str) -> Result<(), NestingError> {
    Scanner::new(text).run()
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    depth: usize,
    /// Open `Set<`; any other `<` is a comparison.
    generics: usize,
    operators: usize,
    previous_word: &'a str,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
            depth: 0,
            generics: 0,
            operators: 0,
            previous_word: "",
        }
    }

    fn run(mut self) -> Result<(), NestingError> {
        while let Some(next) = self.rest.chars().next() {
            if next.is_ascii_alphanumeric() || next == '_' {
                self.word()?;
            } else if next == '"' {
                self.string();
            } else if self.rest.starts_with("//") {
                let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
                self.skip(end);
            } else {
                self.symbol(next)?;
                let is_pair = self.rest.starts_with("&&") || self.rest.starts_with("||");
                self.skip(if is_pair { 2 } else { next.len_utf8() });
            }
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn word(&mut self) -> Result<(), NestingError> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        self.previous_word = self.rest.get(..end).unwrap_or_default();
        self.skip(end);
        match self.previous_word {
            "if" | "exists" | "since" | "formerly" | "previous" => self.operator(),
            _ => Ok(()),
        }
    }

    /// Skips a string, to its closing quote or the end.
    fn string(&mut self) {
        self.previous_word = "";
        let mut escaped = false;
        let mut length = 0;
        for (index, c) in self.rest.char_indices() {
            length = index + c.len_utf8();
            if c == '\n' {
                self.line += 1;
            }
            if index == 0 {
                continue;
            }
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == '"' {
                break;
            }
        }
        self.skip(length);
    }

    fn symbol(&mut self, symbol: char) -> Result<(), NestingError> {
        match symbol {
            '\n' => self.line += 1,
            '<' if self.previous_word == "Set" => {
                self.generics += 1;
                self.open()?;
            }
            '>' if self.generics > 0 => {
                self.generics -= 1;
                self.depth = self.depth.saturating_sub(1);
            }
            '(' | '[' | '{' => self.open()?,
            ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
            ';' if self.depth == 0 => self.operators = 0,
            '!' | '&' | '|' | '-' | '+' | '*' | '.' => self.operator()?,
            _ => {}
        }
        if !symbol.is_whitespace() {
            self.previous_word = "";
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), NestingError> {
        self.depth += 1;
        if self.depth > MAX_SOURCE_DEPTH {
            return Err(NestingError::TooDeep { line: self.line });
        }
        Ok(())
    }

    fn operator(&mut self) -> Result<(), NestingError> {
        self.operators += 1;
        if self.operators > MAX_SOURCE_OPERATORS {
            return Err(NestingError::TooLong { line: self.line });
        }
        Ok(())
    }
}
