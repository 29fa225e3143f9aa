//! Takes the places of one machine's folders out of what is written for everybody: of an absolute path the last part stays.

/// The text without them.
pub fn without(text: &str) -> String {
    let is_separator = |c: char| c.is_whitespace() || "\"'`()<>,;=".contains(c);
    text.split_inclusive(is_separator)
        .map(|piece| {
            let word = piece.trim_end_matches(is_separator);
            let end = &piece[word.len()..];
            format!("{}{end}", if is_absolute(word) { last_part(word) } else { word })
        })
        .collect()
}

/// As Unix or Windows write it, also behind an option's letter (`-I/usr`).
fn is_absolute(word: &str) -> bool {
    let drive = |(at, _): (usize, &str)| at > 0 && word.as_bytes()[at - 1].is_ascii_alphabetic();
    let argument = word.strip_prefix('-').map(|option| option.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
    let path = argument.unwrap_or(word);
    (path.starts_with('/') && path.matches('/').count() > 1) || word.match_indices(":\\").any(drive)
}

fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches(['/', '\\']);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_part_of_an_absolute_path_stays() {
        let text = "waited for /usr/lib/wine/wine64 Z:\\tmp\\x\\old.exe, none; -I/usr/include `/a/b.c:3`: no";
        assert_eq!(without(text), "waited for wine64 old.exe, none; include `b.c:3`: no");
    }

    #[test]
    fn other_words_stay() {
        let text = "`driver/driver/driver.c` +0x1a: 1/2 a::b \"x\\n\" 3 of 4\n(lib/a.c)";
        assert_eq!(without(text), text);
    }
}
