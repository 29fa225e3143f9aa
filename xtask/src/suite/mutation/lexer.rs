//! Cuts C, C++ and Rust sources into the tokens that mutations look at. Comments, preprocessor lines and Rust's attributes are left out.

use std::ops::Range;

/// The languages of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// C and C++.
    C,
    /// Rust.
    Rust,
}

impl Language {
    /// By the ending of a file's name.
    pub fn of(file: &str) -> Language {
        if file.ends_with(".rs") { Language::Rust } else { Language::C }
    }
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword.
    Word,
    /// A number.
    Number,
    /// A string literal with its quotes.
    Text,
    /// A character literal with its quotes.
    Character,
    /// An operator or a bracket.
    Mark,
}

/// A token: what it is and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Bytes of the source.
    pub range: Range<usize>,
}

impl Token {
    /// Its text.
    pub fn text<'s>(&self, source: &'s str) -> &'s str {
        source.get(self.range.clone()).unwrap_or_default()
    }
}

/// Operators of more than one character, longest first.
const MARKS: [&str; 29] = [
    "<<=", ">>=", "...", "..=", "<=>", "->*", "==", "!=", "<=", ">=", "&&", "||", "<<", ">>", "++", "--", "+=", "-=",
    "*=", "/=", "%=", "&=", "|=", "^=", "->", "::", "..", "=>", "##",
];

/// All tokens of a source.
pub fn tokens(source: &str, language: Language) -> Vec<Token> {
    let mut lexer = Lexer { source, bytes: source.as_bytes(), at: 0, language };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

struct Lexer<'s> {
    source: &'s str,
    bytes: &'s [u8],
    at: usize,
    language: Language,
}

impl Lexer<'_> {
    fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn starts_with(&self, text: &str) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text.as_bytes()))
    }

    fn next(&mut self) -> Option<Token> {
        self.skip();
        let start = self.at;
        let first = *self.bytes.get(start)?;
        let kind = if self.raw_text() || first == b'"' {
            if first == b'"' && self.at == start {
                self.quoted(b'"');
            }
            Kind::Text
        } else if first == b'\'' {
            if self.language == Language::Rust && self.is_lifetime() {
                self.at += 1;
                self.word();
                Kind::Word
            } else {
                self.quoted(b'\'');
                Kind::Character
            }
        } else if is_word(first) && !first.is_ascii_digit() {
            self.word();
            // A prefix of a literal: `L"..."`, `b'x'`.
            match self.byte(0) {
                quote @ (b'"' | b'\'') if self.at - start <= 2 => {
                    self.quoted(quote);
                    if quote == b'"' { Kind::Text } else { Kind::Character }
                }
                _ => Kind::Word,
            }
        } else if first.is_ascii_digit() || first == b'.' && self.byte(1).is_ascii_digit() {
            self.number();
            Kind::Number
        } else {
            let mark = MARKS.iter().find(|mark| self.starts_with(mark));
            self.at += mark.map_or_else(|| self.character_length(), |mark| mark.len());
            Kind::Mark
        };
        Some(Token { kind, range: start..self.at })
    }

    fn character_length(&self) -> usize {
        self.source.get(self.at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
    }

    /// Skips white space, comments, preprocessor lines and attributes.
    fn skip(&mut self) {
        loop {
            let start = self.at;
            while self.byte(0).is_ascii_whitespace() {
                self.at += 1;
            }
            if self.starts_with("//") {
                self.line();
            } else if self.starts_with("/*") {
                self.block_comment();
            } else if self.byte(0) == b'#' && self.language == Language::C && self.is_first_of_line() {
                self.directive();
            } else if self.language == Language::Rust && (self.starts_with("#[") || self.starts_with("#![")) {
                self.attribute();
            }
            if self.at == start {
                return;
            }
        }
    }

    fn line(&mut self) {
        while self.at < self.bytes.len() && self.byte(0) != b'\n' {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            if self.starts_with("/*") && (depth == 0 || self.language == Language::Rust) {
                depth += 1;
                self.at += 2;
            } else if self.starts_with("*/") {
                depth = depth.saturating_sub(1);
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
    }

    fn is_first_of_line(&self) -> bool {
        let before = self.bytes.get(..self.at).unwrap_or_default();
        before.iter().rev().take_while(|byte| **byte != b'\n').all(u8::is_ascii_whitespace)
    }

    /// A directive goes on behind a line that ends with a backslash, and a comment in it over the line's end.
    fn directive(&mut self) {
        while self.at < self.bytes.len() && self.byte(0) != b'\n' {
            if self.starts_with("\\\n") {
                self.at += 2;
            } else if self.starts_with("\\\r\n") {
                self.at += 3;
            } else if self.starts_with("/*") {
                self.block_comment();
            } else if self.starts_with("//") {
                self.line();
            } else {
                self.at += 1;
            }
        }
    }

    fn attribute(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            match self.byte(0) {
                b'"' => {
                    self.quoted(b'"');
                    continue;
                }
                b'[' => depth += 1,
                b']' if depth == 1 => {
                    self.at += 1;
                    return;
                }
                b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
        }
    }

    fn word(&mut self) {
        while is_word(self.byte(0)) {
            self.at += 1;
        }
    }

    /// A literal in quotes, at the opening one.
    fn quoted(&mut self, quote: u8) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.byte(0) {
                b'\\' => self.at += 2,
                byte => {
                    self.at += 1;
                    if byte == quote {
                        break;
                    }
                }
            }
        }
        self.at = self.at.min(self.bytes.len());
    }

    fn number(&mut self) {
        let is_hexadecimal = self.starts_with("0x") || self.starts_with("0X");
        while self.at < self.bytes.len() {
            let (byte, next) = (self.byte(0), self.byte(1));
            let is_exponent = !is_hexadecimal && matches!(byte, b'e' | b'E') && matches!(next, b'+' | b'-');
            let is_range =
                byte == b'.' && (next == b'.' || next.is_ascii_alphabetic() && self.language == Language::Rust);
            if is_exponent {
                self.at += 2;
            } else if is_word(byte) || byte == b'.' && !is_range {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    /// `'a`, not `'a'`.
    fn is_lifetime(&self) -> bool {
        is_word(self.byte(1)) && self.byte(2) != b'\'' && self.byte(1) != b'\\'
    }

    /// Takes a raw string literal, if one starts here: `R"x(...)x"`, `br#"..."#`.
    fn raw_text(&mut self) -> bool {
        let prefixes: &[&str] = if self.language == Language::Rust { &["r", "br", "cr"] } else { &["R", "u8R", "LR"] };
        let Some(prefix) = prefixes.iter().find(|prefix| self.starts_with(prefix)) else { return false };
        let rest = self.bytes.get(self.at + prefix.len()..).unwrap_or_default();
        let (open, close) = if self.language == Language::Rust {
            let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
            if rest.get(hashes) != Some(&b'"') {
                return false;
            }
            (hashes + 1, [b"\"", rest.get(..hashes).unwrap_or_default()].concat())
        } else {
            let open = rest.iter().take(18).position(|byte| *byte == b'(');
            let (Some(open), Some(b'"')) = (open, rest.first()) else { return false };
            (open + 1, [b")", rest.get(1..open).unwrap_or_default(), b"\""].concat())
        };
        let body = rest.get(open..).unwrap_or_default();
        let length = body.windows(close.len()).position(|window| window == close).unwrap_or(body.len());
        self.at = (self.at + prefix.len() + open + length + close.len()).min(self.bytes.len());
        true
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str, language: Language) -> Vec<&str> {
        tokens(source, language).into_iter().map(|token| token.text(source)).collect()
    }

    #[test]
    fn comments_and_directives_are_no_tokens() {
        let source = "a /* b // */ c // d \" \n# define E(x) \\\n  f(x) /* g\n h */\ni";
        assert_eq!(texts(source, Language::C), ["a", "c", "i"]);
    }

    #[test]
    fn literals_keep_what_looks_like_something_else() {
        let source = r#"p("a\"b // c", '"', L"x", u8R"y(")")y") 0x1Fu 1.5e-3f 'a' x"#;
        let expected = [
            "p",
            "(",
            r#""a\"b // c""#,
            ",",
            "'\"'",
            ",",
            "L\"x\"",
            ",",
            r#"u8R"y(")")y""#,
            ")",
            "0x1Fu",
            "1.5e-3f",
            "'a'",
            "x",
        ];
        assert_eq!(texts(source, Language::C), expected);
    }

    #[test]
    fn operators_are_whole() {
        assert_eq!(texts("a<<=b->c&&d==e", Language::C), ["a", "<<=", "b", "->", "c", "&&", "d", "==", "e"]);
    }

    #[test]
    fn rust_has_lifetimes_attributes_ranges_and_nested_comments() {
        let source = "#[cfg(test = \"]\")] fn f<'a>(x: &'a str) { 'b'; 0..10; 1.max(2); /* /* */ no */ br#\"\"\"# }";
        let expected = [
            "fn",
            "f",
            "<",
            "'a",
            ">",
            "(",
            "x",
            ":",
            "&",
            "'a",
            "str",
            ")",
            "{",
            "'b'",
            ";",
            "0",
            "..",
            "10",
            ";",
            "1",
            ".",
            "max",
            "(",
            "2",
            ")",
            ";",
            "br#\"\"\"#",
            "}",
        ];
        assert_eq!(texts(source, Language::Rust), expected);
    }
}
