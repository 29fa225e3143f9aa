//! Names of image files.

/// Whether two file names are the same to Windows, which compares letters without case. Of other scripts than Latin, Greek and
/// Cyrillic (as far as they are in the ranges below) the case counts: the tables of all Unicode are as large as the loader's code, and
/// an image whose name is written otherwise than it was authored is refused as not loaded.
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    one.chars().map(folded).eq(other.chars().map(folded))
}

/// The small form of a letter.
fn folded(letter: char) -> char {
    let small = match letter {
        'A'..='Z' | 'À'..='Ö' | 'Ø'..='Þ' | 'Α'..='Ρ' | 'Σ'..='Ϋ' | 'А'..='Я' => u32::from(letter) + 0x20,
        'Ѐ'..='Џ' => u32::from(letter) + 0x50,
        _ => return letter,
    };
    char::from_u32(small).unwrap_or(letter)
}

#[cfg(test)]
mod tests {
    use super::{folded, same_name};

    #[test]
    fn letters_are_compared_without_case() {
        assert!(same_name("Server.EXE", "server.exe") && same_name("ÄÖ.dll", "äö.DLL"));
        assert!(same_name("ΣΩ.exe", "σω.exe") && same_name("ЁЖ.exe", "ёж.exe"));
        assert!(!same_name("server.exe", "server.ex") && !same_name("a.dll", "b.dll"));
    }

    #[test]
    fn every_fold_is_one_of_unicode() {
        for letter in (0..0x1_0000).filter_map(char::from_u32) {
            let small = folded(letter);
            assert!(small == letter || letter.to_lowercase().eq([small]), "{letter} {small}");
        }
    }
}
