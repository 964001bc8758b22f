//! Text that came from elsewhere, made fit for a terminal: it can hold characters that are orders to a terminal, or that change how
//! the text around them looks, and they are shown as what they are.

/// The text on one line, without any of these characters.
pub(crate) fn printable(text: &str) -> String {
    spelled_out(text, |_| false)
}

/// The same for text of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    spelled_out(text, |c| c == '\n')
}

fn spelled_out(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_misleading(c) && !is_kept(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// True for control characters, ends of lines, and characters that are not seen or change the direction of what follows.
fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        for (text, shown) in [
            (
                "plain: \u{e4}\u{4e2d} \u{1f600}",
                "plain: \u{e4}\u{4e2d} \u{1f600}",
            ),
            ("\u{1b}[2K\rALLOW\u{7}", "\\u{1b}[2K\\rALLOW\\u{7}"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\u{9b}1m", "\\u{9b}1m"),
            ("\u{202e}WOLLA\u{2066}", "\\u{202e}WOLLA\\u{2066}"),
            ("\u{200b}\u{feff}", "\\u{200b}\\u{feff}"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable_lines(text), shown.replace("\\n", "\n"));
        }
    }
}
