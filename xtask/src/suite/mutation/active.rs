//! Which parts of a C source the preprocessor keeps: what `#if` leaves out is blanked, byte for byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::toolchain;

/// What marks the regions between conditional directives.
const MARK: &str = "hpgen_region_";

/// `source` with spaces in place of what the preprocessor leaves out. `clang` is the compiler with the source's flags and folders; it reads
/// the marked source from `file`, which is written here and removed.
pub fn active(source: &str, file: &Path, clang: &mut Command) -> Result<String> {
    let regions = regions(source);
    fs::write(file, marked(source, &regions))?;
    let output = toolchain::output(clang.args(["-E", "-P"]).arg(file));
    fs::remove_file(file)?;
    Ok(blanked(source, &regions, &output?))
}

/// The places in a source where a line behind a conditional directive begins.
fn regions(source: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let (mut at, mut is_conditional, mut continues) = (0, false, false);
    for line in source.split_inclusive('\n') {
        if !continues {
            let directive = line.trim_start().strip_prefix('#').map(str::trim_start);
            let is_one = |text: &str| ["if", "el", "endif"].iter().any(|word| text.starts_with(word));
            is_conditional = directive.is_some_and(is_one);
        }
        continues = line.trim_end().ends_with('\\');
        at += line.len();
        if is_conditional && !continues {
            found.push(at);
        }
    }
    found
}

fn marked(source: &str, regions: &[usize]) -> String {
    let mut marked = String::with_capacity(source.len() + 24 * regions.len());
    let mut last = 0;
    for (number, region) in regions.iter().enumerate() {
        marked.push_str(source.get(last..*region).unwrap_or_default());
        marked.push_str(&format!("{MARK}{number}\n"));
        last = *region;
    }
    marked.push_str(source.get(last..).unwrap_or_default());
    marked
}

/// A mark that is missing in the output stands for a region that is left out.
fn blanked(source: &str, regions: &[usize], output: &str) -> String {
    let words = output.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let kept: std::collections::BTreeSet<usize> =
        words.filter_map(|word| word.strip_prefix(MARK)?.parse().ok()).collect();
    let mut bytes = source.as_bytes().to_vec();
    for (number, region) in regions.iter().enumerate().filter(|(number, _)| !kept.contains(number)) {
        let end = regions.get(number + 1).copied().unwrap_or(bytes.len());
        for byte in bytes.get_mut(*region..end).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    // Whole lines were blanked, so that no character was cut.
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "a\n#if X\\\n Y\nb\n# else\nc\n#endif\nd\n";

    #[test]
    fn regions_are_behind_whole_directives() {
        let regions = regions(SOURCE);
        let at: Vec<&str> = regions.iter().map(|at| SOURCE[*at..].lines().next().unwrap()).collect();
        assert_eq!(at, ["b", "c", "d"]);
        assert!(marked(SOURCE, &regions).contains(" Y\nhpgen_region_0\nb\n"));
    }

    #[test]
    fn what_is_left_out_is_blank_and_nothing_moves() {
        let blanked = blanked(SOURCE, &regions(SOURCE), "a\nhpgen_region_0\nb\nhpgen_region_2\nd");
        assert_eq!(blanked, "a\n#if X\\\n Y\nb\n# else\n \n      \nd\n");
    }
}
