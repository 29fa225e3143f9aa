//! Where the functions of a C or C++ file are, read from its text: comments, strings and preprocessor lines are set aside, braces are
//! matched, and of two branches of an `#if` each continues from where the `#if` stood.

/// A definition of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name as it is written there, without the classes that it is in.
    pub name: String,
    /// Its lines, from the one with its name to its closing brace; the first line is 1.
    pub lines: std::ops::RangeInclusive<usize>,
}

/// What a text holds.
#[derive(Debug, Default)]
pub struct Text {
    /// Its functions.
    pub definitions: Vec<Definition>,
    /// For each line, whether there is anything on it but comments.
    pub is_code: Vec<bool>,
}

impl Text {
    /// Reads it.
    pub fn read(text: &str) -> Self {
        let stripped = without_comments(text);
        let is_code = stripped.lines().map(|line| !line.trim().is_empty()).collect();
        let mut scanner = Scanner::default();
        let mut continued = false;
        for (line, text) in stripped.lines().enumerate() {
            let directive = continued || text.trim_start().starts_with('#');
            continued = directive && text.trim_end().ends_with('\\');
            if directive {
                scanner.directive(text.trim_start());
            } else {
                scanner.line(line + 1, text);
            }
        }
        Self { definitions: scanner.definitions, is_code }
    }
}

/// The same lines with comments gone, and with strings and character constants empty.
fn without_comments(text: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        match (letter, rest.peek()) {
            ('/', Some('/')) => while rest.next_if(|letter| *letter != '\n').is_some() {},
            ('/', Some('*')) => {
                rest.next();
                let mut last = ' ';
                for letter in rest.by_ref() {
                    if letter == '\n' {
                        stripped.push('\n');
                    }
                    if last == '*' && letter == '/' {
                        break;
                    }
                    last = letter;
                }
                stripped.push(' ');
            }
            // `1'000'000` is a number.
            ('\'', _) if stripped.ends_with(|letter: char| letter.is_ascii_hexdigit()) => {}
            ('"' | '\'', _) => {
                stripped.push(letter);
                while let Some(inside) = rest.next_if(|inside| *inside != '\n') {
                    if inside == '\\' {
                        rest.next_if(|escaped| *escaped != '\n');
                    } else if inside == letter {
                        break;
                    }
                }
                stripped.push(letter);
            }
            _ => stripped.push(letter),
        }
    }
    stripped
}

/// What a brace is around.
#[derive(Debug, Clone)]
enum Around {
    /// Definitions: a namespace, a class, `extern "C"`.
    Definitions,
    /// A function's body, whose name stands on a line.
    Body(String, usize),
    /// Anything else: an initial value, an enumeration, a block.
    Other,
}

#[derive(Debug, Default)]
struct Scanner {
    open: Vec<Around>,
    /// What was open at each `#if`.
    branches: Vec<Vec<Around>>,
    /// What stands before the next brace outside functions, in words and signs, with their lines.
    header: Vec<(String, usize)>,
    definitions: Vec<Definition>,
}

impl Scanner {
    fn directive(&mut self, text: &str) {
        let name = text.trim_start_matches('#').trim_start();
        if name.starts_with("if") {
            self.branches.push(self.open.clone());
        } else if name.starts_with("el") {
            if let Some(open) = self.branches.last() {
                self.open.clone_from(open);
            }
        } else if name.starts_with("endif") {
            self.branches.pop();
        }
    }

    fn line(&mut self, line: usize, text: &str) {
        let mut word = String::new();
        for letter in text.chars().chain([' ']) {
            if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '~') {
                word.push(letter);
                continue;
            }
            if !word.is_empty() {
                self.header.push((std::mem::take(&mut word), line));
            }
            match letter {
                '{' => self.open(),
                '}' => self.close(line),
                ';' if self.ends_statement() => self.header.clear(),
                _ if letter.is_whitespace() => {}
                _ => self.header.push((letter.to_string(), line)),
            }
        }
    }

    /// Not where old C declares parameters behind a list of their names.
    fn ends_statement(&self) -> bool {
        let last = self.header.iter().rposition(|(word, _)| word == ")");
        let behind = last.and_then(|last| self.header.get(last + 1));
        !behind.is_some_and(|(word, _)| word.starts_with(|letter: char| letter.is_ascii_alphabetic()))
    }

    fn open(&mut self) {
        let outside = self.open.iter().all(|around| matches!(around, Around::Definitions));
        let around = if outside { self.around() } else { Around::Other };
        self.open.push(around);
        self.header.clear();
    }

    fn around(&self) -> Around {
        let has = |wanted: &str| self.header.iter().any(|(word, _)| word == wanted);
        if let Some((name, line)) = self.function() {
            return Around::Body(name, line);
        }
        let definitions = ["namespace", "class", "struct", "union", "extern"].iter().any(|word| has(word));
        if definitions && !has("=") { Around::Definitions } else { Around::Other }
    }

    /// The name before the last list in parentheses, initialisers of members aside.
    fn function(&self) -> Option<(String, usize)> {
        let (mut depth, mut found) = (0_usize, None);
        for (at, (word, _)) in self.header.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|before| self.header.get(before));
            let sign = |at: usize| self.header.get(at).map(|(word, _)| word.as_str());
            match word.as_str() {
                "(" => {
                    let name = before.filter(|(name, _)| depth == 0 && is_name(name));
                    found = name.cloned().or(found);
                    depth += 1;
                }
                ")" => depth = depth.saturating_sub(1),
                "=" if depth == 0 && before.is_none_or(|(word, _)| word != "operator") => return None,
                ":" if depth == 0
                    && found.is_some()
                    && sign(at + 1) != Some(":")
                    && before.is_none_or(|(word, _)| word != ":") =>
                {
                    break;
                }
                _ => {}
            }
        }
        found
    }

    fn close(&mut self, line: usize) {
        if let Some(Around::Body(name, start)) = self.open.pop() {
            self.definitions.push(Definition { name, lines: start..=line });
        }
        self.header.clear();
    }
}

fn is_name(word: &str) -> bool {
    const NOT: [&str; 7] = ["__attribute__", "__declspec", "noexcept", "throw", "if", "while", "switch"];
    word.starts_with(|letter: char| letter.is_ascii_alphabetic() || matches!(letter, '_' | '~')) && !NOT.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(String, usize, usize)> {
        let of = |found: Definition| (found.name, *found.lines.start(), *found.lines.end());
        Text::read(text).definitions.into_iter().map(of).collect()
    }

    #[test]
    fn finds_functions_of_c() {
        let text = "static int table[] = { f(1), 2 };\nint\nname(int a)\n{ if (a) { return '{'; } /* } */ }\nint declared(int);\n\
                    struct s { int field; };\nAPI(int) other(void) {\n  return 1; // }\n}\n";
        assert_eq!(names(text), [("name".into(), 3, 4), ("other".into(), 7, 9)]);
    }

    #[test]
    fn finds_functions_of_old_c_and_of_cpp() {
        assert_eq!(names("local int f(a, b)\n  int a;\n  char *b;\n{\n}\n"), [("f".into(), 1, 5)]);
        let text = "namespace n {\nclass C : public B {\n  int get() const { return x; }\n};\nC::C(int a) : x(a), y(1)\n{\n}\n}\n";
        assert_eq!(names(text), [("get".into(), 3, 3), ("C".into(), 5, 7)]);
    }

    #[test]
    fn takes_each_branch_of_an_if_from_where_the_if_stood() {
        let text = "void f(int a) {\n#ifdef A\n  if (a) {\n#else\n  while (a) {\n#endif\n  }\n}\nvoid g() {\n}\n";
        assert_eq!(names(text), [("f".into(), 1, 8), ("g".into(), 9, 10)]);
    }
}
