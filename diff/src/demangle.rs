//! Linkage names in the source's terms, for display only: names are compared as linkers see them.

/// The demangled form of a Rust, Itanium C++ or Microsoft C++ name; any other name as it is.
pub fn demangle(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
        && let Ok(text) = symbol.demangle()
    {
        return text;
    }
    if name.starts_with('?')
        && let Ok(text) = msvc_demangler::demangle(name, msvc_demangler::DemangleFlags::NAME_ONLY)
    {
        return text;
    }
    name.to_owned()
}
