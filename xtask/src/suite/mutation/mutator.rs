//! All places of a source where one small edit makes another program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use super::lexer::{self, Kind, Language, Token};
use super::zones::{self, Zone};
use crate::digest;

/// What an edit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// Another number, character or truth value.
    Constant,
    /// Another operator.
    Operator,
    /// A call or an assignment less.
    RemovedStatement,
    /// Two arguments change places.
    SwappedArguments,
    /// Another letter in a string.
    Text,
    /// A call goes to another function.
    Callee,
}

/// All kinds of edits.
pub const EDITS: [Edit; 6] =
    [Edit::Constant, Edit::Operator, Edit::RemovedStatement, Edit::SwappedArguments, Edit::Text, Edit::Callee];

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Edit::Constant => "constant",
            Edit::Operator => "operator",
            Edit::RemovedStatement => "statement",
            Edit::SwappedArguments => "arguments",
            Edit::Text => "string",
            Edit::Callee => "callee",
        })
    }
}

/// One edit of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What it does.
    pub edit: Edit,
    /// The bytes of the source that it replaces.
    pub range: Range<usize>,
    /// What takes their place.
    pub replacement: String,
}

impl Mutation {
    /// The source with this edit made.
    pub fn apply(&self, source: &str) -> Option<String> {
        Some([source.get(..self.range.start)?, &self.replacement, source.get(self.range.end..)?].concat())
    }

    /// The number of its line, from 1.
    pub fn line(&self, source: &str) -> usize {
        source.get(..self.range.start).map_or(0, |before| before.matches('\n').count() + 1)
    }
}

/// The mutations of a source, in an order that looks random and depends on nothing but the source.
pub fn mutations(source: &str, language: Language) -> Vec<Mutation> {
    let tokens = lexer::tokens(source, language);
    let zones = zones::zones(source, &tokens, language);
    let finder = Finder { source, tokens: &tokens, zones: &zones, language };
    let callees = finder.callees();
    let mut found: Vec<Mutation> = (0..tokens.len()).flat_map(|index| finder.at(index, &callees)).collect();
    found.sort_by_cached_key(|mutation| {
        digest::of(format!("{:?} {} {}", mutation.edit, mutation.range.start, mutation.replacement).as_bytes())
    });
    found
}

/// What takes an operator's place.
const OPERATORS: [(&str, &str); 32] = [
    ("+", "-"),
    ("-", "+"),
    ("*", "+"),
    ("/", "*"),
    ("%", "/"),
    ("<<", ">>"),
    (">>", "<<"),
    ("&", "|"),
    ("|", "&"),
    ("^", "|"),
    ("==", "!="),
    ("!=", "=="),
    ("<", "<="),
    ("<=", "<"),
    (">", ">="),
    (">=", ">"),
    ("&&", "||"),
    ("||", "&&"),
    ("++", "--"),
    ("--", "++"),
    ("+=", "-="),
    ("-=", "+="),
    ("*=", "+="),
    ("/=", "*="),
    ("%=", "/="),
    ("<<=", ">>="),
    (">>=", "<<="),
    ("&=", "|="),
    ("|=", "&="),
    ("^=", "|="),
    ("!", ""),
    ("~", ""),
];

/// Words that stand before a bracket or at the start of a statement and are no names.
const KEYWORDS: [&str; 52] = [
    "if",
    "else",
    "while",
    "for",
    "do",
    "switch",
    "case",
    "default",
    "return",
    "goto",
    "break",
    "continue",
    "sizeof",
    "alignof",
    "new",
    "delete",
    "throw",
    "try",
    "catch",
    "using",
    "typedef",
    "static",
    "const",
    "struct",
    "union",
    "enum",
    "class",
    "template",
    "typename",
    "operator",
    "co_await",
    "static_assert",
    "static_cast",
    "decltype",
    "noexcept",
    "asm",
    "let",
    "match",
    "loop",
    "fn",
    "use",
    "in",
    "as",
    "mut",
    "ref",
    "move",
    "impl",
    "where",
    "unsafe",
    "dyn",
    "defined",
    "Some",
];

/// Functions by how they are called (as a method or not) and with how many arguments.
type Callees<'s> = BTreeMap<(bool, usize), BTreeSet<&'s str>>;

struct Finder<'s> {
    source: &'s str,
    tokens: &'s [Token],
    zones: &'s [Zone],
    language: Language,
}

impl<'s> Finder<'s> {
    fn text(&self, index: usize) -> &'s str {
        self.tokens.get(index).map_or("", |token| token.text(self.source))
    }

    fn is(&self, index: usize, kind: Kind) -> bool {
        self.tokens.get(index).is_some_and(|token| token.kind == kind)
    }

    fn start(&self, index: usize) -> usize {
        self.tokens.get(index).map_or(self.source.len(), |token| token.range.start)
    }

    fn end(&self, index: usize) -> usize {
        self.tokens.get(index).map_or(self.source.len(), |token| token.range.end)
    }

    fn is_name(&self, index: usize) -> bool {
        self.is(index, Kind::Word) && !KEYWORDS.contains(&self.text(index))
    }

    fn at(&self, index: usize, callees: &Callees<'s>) -> Vec<Mutation> {
        let Some(token) = self.tokens.get(index) else { return Vec::new() };
        let zone = self.zones.get(index).copied().unwrap_or(Zone::Declaration);
        if zone == Zone::Declaration {
            return Vec::new();
        }
        let replace = |edit, replacement| Mutation { edit, range: token.range.clone(), replacement };
        let text = token.text(self.source);
        let mut found = Vec::new();
        found.extend(other_constant(token.kind, text).map(|other| replace(Edit::Constant, other)));
        if token.kind == Kind::Text && !self.is_directly_behind(index, &["asm", "extern", "include"]) {
            found.extend(other_text(text, self.language).map(|other| replace(Edit::Text, other)));
        }
        if zone == Zone::Body {
            found.extend(self.other_operator(index).map(|other| replace(Edit::Operator, other.to_owned())));
            found.extend(self.removed_statement(index));
            found.extend(self.swapped_arguments(index));
            found.extend(self.other_callee(index, callees));
        }
        found
    }

    fn is_directly_behind(&self, index: usize, words: &[&str]) -> bool {
        (1..=2).filter_map(|back| index.checked_sub(back)).any(|before| words.contains(&self.text(before)))
    }

    /// Whether a token ends an operand, so that an operator behind it has two.
    fn is_operand_end(&self, index: usize) -> bool {
        self.is_name(index) || self.is(index, Kind::Number) || matches!(self.text(index), ")" | "]")
    }

    fn other_operator(&self, index: usize) -> Option<&'static str> {
        let text = self.text(index);
        if !self.is(index, Kind::Mark) {
            return None;
        }
        let (_, other) = OPERATORS.iter().find(|(operator, _)| *operator == text)?;
        let before = index.checked_sub(1)?;
        let (space_before, space_after) =
            (self.end(before) < self.start(index), self.end(index) < self.start(index + 1));
        let is_possible = match text {
            // A macro of Rust has its `!` behind the name.
            "!" | "~" => !self.is_operand_end(before),
            "++" | "--" => true,
            // `T *p`, `T& r`, `vector<T>` are no operators.
            "*" | "&" | "&&" | "<" | ">" | ">>" => self.is_operand_end(before) && space_before == space_after,
            "|" | "||" => self.is_operand_end(before),
            _ => self.is_operand_end(before),
        };
        is_possible.then_some(other)
    }

    /// The bracket that closes the one here.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for index in open..self.tokens.len() {
            match self.text(index) {
                _ if !self.is(index, Kind::Mark) => {}
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(index);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// A call or assignment from here to its semicolon.
    fn removed_statement(&self, index: usize) -> Option<Mutation> {
        let before = index.checked_sub(1)?;
        let starts = matches!(self.text(before), ";" | "{" | "}" | ")" | "else");
        // Two words in a row, or a name and a star, declare something.
        if !starts || !self.is_name(index) || self.is(index + 1, Kind::Word) || self.text(index + 1) == "*" {
            return None;
        }
        let mut at = index;
        loop {
            match self.text(at) {
                "(" | "[" | "{" => at = self.closing(at)?,
                ";" => break,
                ")" | "]" | "}" | "" | ":" => return None,
                _ => {}
            }
            at += 1;
        }
        let is_effect = matches!(self.text(at - 1), ")" | "++" | "--")
            || (index..at).any(|i| self.text(i).ends_with('=') && !matches!(self.text(i), "==" | "<=" | ">=" | "!="));
        let range = self.start(index)..self.start(at);
        is_effect.then(|| Mutation { edit: Edit::RemovedStatement, range, replacement: String::new() })
    }

    /// The arguments of a call: the name is at `index`.
    fn arguments(&self, index: usize) -> Option<Vec<Range<usize>>> {
        let before = index.checked_sub(1)?;
        // A word before the name declares a function, or a variable.
        let is_declaration =
            self.is(before, Kind::Word) && !matches!(self.text(before), "return" | "else" | "in" | "case");
        if !self.is_name(index) || self.text(index + 1) != "(" || is_declaration {
            return None;
        }
        let close = self.closing(index + 1)?;
        let mut arguments = Vec::new();
        let (mut first, mut at) = (index + 2, index + 2);
        while at <= close {
            match self.text(at) {
                "(" | "[" | "{" => at = self.closing(at)?,
                "," | ")" if first < at => {
                    arguments.push(self.start(first)..self.end(at - 1));
                    first = at + 1;
                }
                _ => {}
            }
            at += 1;
        }
        Some(arguments)
    }

    fn swapped_arguments(&self, index: usize) -> Option<Mutation> {
        let arguments = self.arguments(index)?;
        let of = |range: &Range<usize>| self.source.get(range.clone()).unwrap_or_default();
        let [first, second] = arguments.windows(2).find_map(|pair| match pair {
            [first, second] if of(first) != of(second) => Some([first, second]),
            _ => None,
        })?;
        let between = self.source.get(first.end..second.start)?;
        let replacement = [of(second), between, of(first)].concat();
        Some(Mutation { edit: Edit::SwappedArguments, range: first.start..second.end, replacement })
    }

    fn is_method(&self, index: usize) -> bool {
        index.checked_sub(1).is_some_and(|before| matches!(self.text(before), "." | "->"))
    }

    /// The names that are called in this file. Names in capitals are macros.
    fn callees(&self) -> Callees<'s> {
        let mut callees = Callees::new();
        for index in (0..self.tokens.len()).filter(|index| self.zones.get(*index) == Some(&Zone::Body)) {
            let Some(arguments) = self.arguments(index) else { continue };
            let name = self.text(index);
            if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
                callees.entry((self.is_method(index), arguments.len())).or_default().insert(name);
            }
        }
        callees
    }

    fn other_callee(&self, index: usize, callees: &Callees<'s>) -> Option<Mutation> {
        let arguments = self.arguments(index)?;
        let (name, token) = (self.text(index), self.tokens.get(index)?);
        let others = callees.get(&(self.is_method(index), arguments.len()))?;
        // The next in the alphabet, which often belongs to the same family.
        let other = others.range(name..).find(|other| **other != name).or_else(|| others.first())?;
        (*other != name && others.contains(name)).then(|| Mutation {
            edit: Edit::Callee,
            range: token.range.clone(),
            replacement: (*other).to_owned(),
        })
    }
}

fn other_constant(kind: Kind, text: &str) -> Option<String> {
    match (kind, text) {
        (Kind::Word, "true") => Some("false".to_owned()),
        (Kind::Word, "false") => Some("true".to_owned()),
        (Kind::Number, _) => other_number(text),
        (Kind::Character, _) => {
            let [b'\'', letter, b'\''] = text.as_bytes() else { return None };
            Some(format!("'{}'", other_letter(*letter)?))
        }
        _ => None,
    }
}

/// The number with another last digit, or, where it has a fraction, another first digit.
fn other_number(text: &str) -> Option<String> {
    let is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let is_digit = |byte: &u8| if is_hexadecimal { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
    let skipped = if is_hexadecimal { 2 } else { 0 };
    let count = text.bytes().skip(skipped).take_while(|byte| is_digit(byte) || *byte == b'_').count();
    let whole_end = skipped + count;
    let is_fraction = text.as_bytes().get(whole_end).is_some_and(|byte| matches!(byte, b'.' | b'e' | b'E'));
    let place = if is_fraction { 0 } else { whole_end.checked_sub(1)? };
    let digit = char::from(*text.as_bytes().get(place)?);
    let radix = if is_hexadecimal { 16 } else { 10 };
    let value = digit.to_digit(radix)?;
    // In a number that starts with 0, a digit counts to 7.
    let top = if text.starts_with('0') && !is_hexadecimal && text.len() > 1 { 7 } else { radix - 1 };
    let other = char::from_digit(if value >= top { value.checked_sub(1)? } else { value + 1 }, radix)?;
    Some(format!("{}{other}{}", text.get(..place)?, text.get(place + 1..)?))
}

fn other_letter(letter: u8) -> Option<char> {
    letter.is_ascii_alphanumeric().then(|| match letter {
        b'z' | b'Z' | b'9' => char::from(letter - 1),
        _ => char::from(letter + 1),
    })
}

/// The literal with another letter in its middle, outside of what formatting reads.
fn other_text(text: &str, language: Language) -> Option<String> {
    let open = text.find('"')?;
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut places = Vec::new();
    for (place, byte) in bytes.iter().enumerate().skip(open + 1) {
        match byte {
            b'{' if language == Language::Rust => depth += 1,
            b'}' if language == Language::Rust => depth = depth.saturating_sub(1),
            _ => {}
        }
        let before = bytes.get(place - 1).copied().unwrap_or(0);
        if depth == 0 && byte.is_ascii_alphabetic() && !matches!(before, b'\\' | b'%' | b'#') {
            places.push(place);
        }
    }
    let place = *places.get(places.len() / 2)?;
    let other = other_letter(*bytes.get(place)?)?;
    Some(format!("{}{other}{}", text.get(..place)?, text.get(place + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each edit of a kind makes of a body, in the order of the source.
    fn edited(body: &str, edit: Edit, language: Language) -> Vec<String> {
        let (open, close) = if language == Language::Rust { ("fn f() {", "}") } else { ("int f(int a) {", "}") };
        let source = [open, body, close].concat();
        let mut found = mutations(&source, language);
        found.retain(|mutation| mutation.edit == edit);
        found.sort_by_key(|mutation| mutation.range.start);
        let edited = found.into_iter().filter_map(|mutation| mutation.apply(&source));
        edited.map(|text| text[open.len()..text.len() - close.len()].to_owned()).collect()
    }

    #[test]
    fn constants() {
        let cases = [
            ("1", "2"),
            ("9u", "8u"),
            ("0x1fL", "0x1eL"),
            ("077", "076"),
            ("1.5", "2.5"),
            ("'a'", "'b'"),
            ("true", "false"),
        ];
        for (before, after) in cases {
            assert_eq!(edited(before, Edit::Constant, Language::C), [after]);
        }
        assert_eq!(edited("'\\n'", Edit::Constant, Language::C), [] as [&str; 0]);
    }

    #[test]
    fn operators_but_not_what_looks_like_one() {
        let found = edited("T *p = *q; a = b * !c<d;", Edit::Operator, Language::C);
        let expected = ["T *p = *q; a = b + !c<d;", "T *p = *q; a = b * c<d;", "T *p = *q; a = b * !c<=d;"];
        assert_eq!(found, expected);
        assert_eq!(edited("f!(x); &a", Edit::Operator, Language::Rust), [] as [&str; 0]);
    }

    #[test]
    fn statements_but_not_declarations() {
        let found =
            edited("int x = 1; T *p; if (x) f(y); p->q[i] += 2; return g();", Edit::RemovedStatement, Language::C);
        let expected =
            ["int x = 1; T *p; if (x) ; p->q[i] += 2; return g();", "int x = 1; T *p; if (x) f(y); ; return g();"];
        assert_eq!(found, expected);
        assert_eq!(edited("let x = f(); self.g(x);", Edit::RemovedStatement, Language::Rust), ["let x = f(); ;"]);
    }

    #[test]
    fn arguments_that_differ() {
        assert_eq!(
            edited("f(a, a, b[1, 2]); int g(x, y); h(z);", Edit::SwappedArguments, Language::C),
            ["f(a, b[1, 2], a); int g(x, y); h(z);"]
        );
    }

    #[test]
    fn strings_outside_of_formats() {
        assert_eq!(edited(r#"p("%d ab\n");"#, Edit::Text, Language::C), [r#"p("%d ac\n");"#]);
        assert_eq!(edited(r#"p!("{abc} z")"#, Edit::Text, Language::Rust), [r#"p!("{abc} y")"#]);
    }

    #[test]
    fn callees_with_as_many_arguments() {
        let found = edited("one(1); two(2, 3); three(4); x.four(5); CAPITALS(6);", Edit::Callee, Language::C);
        assert_eq!(
            found,
            [
                "three(1); two(2, 3); three(4); x.four(5); CAPITALS(6);",
                "one(1); two(2, 3); one(4); x.four(5); CAPITALS(6);"
            ]
        );
    }
}
