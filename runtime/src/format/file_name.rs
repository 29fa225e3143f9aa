//! Names of image files.

/// Whether two file names are the same to Windows, which compares letters without case.
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    let folded = |name| str::chars(name).flat_map(char::to_lowercase);
    folded(one).eq(folded(other))
}

#[cfg(test)]
mod tests {
    use super::same_name;

    #[test]
    fn letters_are_compared_without_case() {
        assert!(same_name("Server.EXE", "server.exe") && same_name("ÄÖ.dll", "äö.DLL"));
        assert!(!same_name("server.exe", "server.ex") && !same_name("a.dll", "b.dll"));
    }
}
