//! Which tokens of a source are code and initial values, and which declare something. Only the first two are mutated.

use super::lexer::{Kind, Language, Token};

/// What a token is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The body of a function.
    Body,
    /// The initial value of a variable or constant outside functions.
    Initialiser,
    /// A declaration.
    Declaration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The whole file, a namespace, a class, an `impl`: functions and variables are declared here.
    Container,
    /// All to its end is of one zone.
    All(Zone),
}

/// The zone of each token.
pub fn zones(source: &str, tokens: &[Token], language: Language) -> Vec<Zone> {
    let mut scopes = vec![Scope::Container];
    let mut zones = Vec::with_capacity(tokens.len());
    // Where the declaration started, how deep in its brackets we are, and whether its initial value has begun.
    let (mut start, mut depth, mut has_value) = (0, 0_usize, false);
    for (index, token) in tokens.iter().enumerate() {
        let text = if token.kind == Kind::Mark { token.text(source) } else { "" };
        if let Some(Scope::All(zone)) = scopes.last().copied() {
            zones.push(zone);
            match text {
                "{" => scopes.push(Scope::All(zone)),
                "}" => {
                    scopes.pop();
                    if scopes.last() == Some(&Scope::Container) && !has_value {
                        start = index + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        zones.push(if has_value && text != ";" { Zone::Initialiser } else { Zone::Declaration });
        match text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "=" if depth == 0 => has_value = !is_operator_name(source, tokens, index),
            ";" if depth == 0 => (start, has_value) = (index + 1, false),
            "{" => {
                let header = tokens.get(start..index).unwrap_or_default();
                scopes.push(opened(source, header, has_value, language));
                if scopes.last() == Some(&Scope::Container) {
                    (start, depth) = (index + 1, 0);
                }
            }
            "}" => {
                scopes.pop();
                if scopes.is_empty() {
                    scopes.push(Scope::Container);
                }
                (start, depth, has_value) = (index + 1, 0, false);
            }
            _ => {}
        }
    }
    zones
}

/// `operator=`.
fn is_operator_name(source: &str, tokens: &[Token], index: usize) -> bool {
    index.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|token| token.text(source) == "operator")
}

/// What a `{` behind these tokens opens.
fn opened(source: &str, header: &[Token], has_value: bool, language: Language) -> Scope {
    let has = |words: &[&str]| header.iter().any(|token| words.contains(&token.text(source)));
    if has_value {
        return Scope::All(Zone::Initialiser);
    }
    if language == Language::Rust {
        return if has(&["macro_rules", "use"]) {
            Scope::All(Zone::Declaration)
        } else if has(&["fn"]) {
            Scope::All(Zone::Body)
        } else if has(&["impl", "mod", "trait", "extern", "thread_local"]) {
            Scope::Container
        } else {
            Scope::All(Zone::Declaration)
        };
    }
    let last = header.last().map(|token| token.text(source));
    if last == Some(")") || has(&["("]) && matches!(last, Some("const" | "noexcept" | "override" | "final")) {
        Scope::All(Zone::Body)
    } else if has(&["enum"]) {
        Scope::All(Zone::Declaration)
    } else {
        Scope::Container
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer;
    use super::*;

    /// The words and numbers of a zone.
    fn of(zone: Zone, source: &str, language: Language) -> Vec<&str> {
        let tokens = lexer::tokens(source, language);
        let zones = zones(source, &tokens, language);
        let wanted = tokens.iter().zip(zones).filter(|(token, of)| *of == zone && token.kind != Kind::Mark);
        wanted.map(|(token, _)| token.text(source)).collect()
    }

    const C: &str = "enum { A = 1 }; struct S { int a[2]; }; static const struct { int b; } t[3] = { {4}, {5} };
        int x = 6; namespace n { class K { int f() const { return 7; } }; } int g(int k[8]) { if (k) { h(9); } } int y = 10, z;";

    #[test]
    fn bodies_and_initial_values_of_c() {
        assert_eq!(of(Zone::Body, C, Language::C), ["return", "7", "if", "k", "h", "9"]);
        assert_eq!(of(Zone::Initialiser, C, Language::C), ["4", "5", "6", "10", "z"]);
    }

    const RUST: &str = "const N: usize = 1; struct S { a: [u8; 2] } enum E { B = 3 } impl S { const M: u8 = 4; fn f(x: [u8; 5])
        -> [u8; 6] { x.g(7); } } thread_local! { static T: Cell<u8> = const { Cell::new(8) }; } macro_rules! m { () => { 9 } }";

    #[test]
    fn bodies_and_initial_values_of_rust() {
        assert_eq!(of(Zone::Body, RUST, Language::Rust), ["x", "g", "7"]);
        assert_eq!(of(Zone::Initialiser, RUST, Language::Rust), ["1", "4", "const", "Cell", "new", "8"]);
    }
}
