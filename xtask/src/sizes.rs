//! `cargo xtask sizes`: what a payload weighs beside a binary patch of the same two images, for every case here that can be patched.
//!
//! Each of the others is asked for its smallest. What they make turns one file into another and is as large as the files' difference, which
//! is small where nothing moved; the program has to be started anew. A payload changes a process: it names its image, carries digests of what
//! it replaces, names, unwind data and a seal, and leaves out what has no meaning. All are unsigned (a signature adds 104 bytes), and none
//! carries debug information: a payload's symbols are a file of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::binary_patches::{self, OTHERS, PACKAGES, size};
use crate::corpus::Weighed;
use crate::suite::msvc;
use crate::toolchain::{self, Toolchain};
use crate::{binaries, corpus, fixtures, programs, setup, workspace};

/// Two images.
struct Case {
    name: String,
    old: PathBuf,
    new: PathBuf,
}

/// What was measured of a case, in bytes.
struct Row {
    name: String,
    image: u64,
    payload: u64,
    others: [u64; OTHERS.len()],
}

impl Row {
    fn smallest_other(&self) -> u64 {
        self.others.into_iter().min().unwrap_or(u64::MAX)
    }
}

/// Prints the table.
pub fn sizes() -> Result<()> {
    if !cfg!(windows) {
        setup::install(&PACKAGES)?;
    }
    programs::build_all(&Toolchain::find()?)?;
    let hpgen = binaries::native_hpgen()?;
    let folder = workspace::target().join("sizes");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut rows = Vec::new();
    let mut refused = Vec::new();
    for case in cases()? {
        match measure(&hpgen, &case, &folder)? {
            Some(row) => rows.push(row),
            None => refused.push(case.name),
        }
    }
    ensure!(!rows.is_empty(), "nothing could be patched");
    let (weighed, missing) = corpus::weighed(&hpgen)?;
    rows.extend(weighed.into_iter().map(Row::from));
    print!("{}", table(&rows));
    println!("\nwithout a payload, since there is nothing to patch or a restart is required: {}", refused.join(", "));
    if missing > 0 {
        println!(
            "{missing} of the corpus's builds were not authored by this hpgen: `cargo xtask corpus --authoring-only` does those of -O2"
        );
    }
    Ok(())
}

impl From<Weighed> for Row {
    fn from(Weighed { name, image, payload, others }: Weighed) -> Row {
        Row { name, image, payload, others }
    }
}

/// The fixtures, the whole programs, and what Microsoft's tools made.
fn cases() -> Result<Vec<Case>> {
    let fixture = |name: String| Case {
        old: workspace::fixture(&name, "old"),
        new: workspace::fixture(&name, "new"),
        name: format!("fixtures/{name}"),
    };
    let program = |name: &str| Case {
        old: workspace::program(name, "old"),
        new: workspace::program(name, "new"),
        name: name.to_owned(),
    };
    let fixtures = fixtures::all()?.into_iter().map(fixture);
    let msvc =
        msvc::pairs_at_hand()?.into_iter().map(|(name, [old, new])| Case { name: format!("msvc/{name}"), old, new });
    Ok(fixtures.chain(programs::names().map(program)).chain(msvc).collect())
}

/// The sizes of a case; none where hpgen makes no payload.
fn measure(hpgen: &Path, case: &Case, folder: &Path) -> Result<Option<Row>> {
    let stem = case.name.replace(['/', ' ', '.'], "-");
    let payload = folder.join(format!("{stem}.hpx"));
    let mut build = Command::new(hpgen);
    // Where no rules are that somebody left in the current folder.
    build.current_dir(folder).arg("build").args([&case.old, &case.new]).arg("-o").arg(&payload);
    let output = build.output().with_context(|| format!("cannot start {}", toolchain::describe(&build)))?;
    match output.status.code() {
        Some(0) => {}
        Some(3 | 4) => return Ok(None),
        _ => bail!("{} failed:\n{}", toolchain::describe(&build), String::from_utf8_lossy(&output.stderr)),
    }
    let others = binary_patches::sizes(&case.old, &case.new, &folder.join(&stem))?;
    Ok(Some(Row { name: case.name.clone(), image: size(&case.new)?, payload: size(&payload)?, others }))
}

/// The rows, what they come to, and where a payload is not the smallest.
fn table(rows: &[Row]) -> String {
    let names = OTHERS.iter().map(|tool| format!(" {:>9}", tool.name)).collect::<String>();
    let mut text = format!("{:<44} {:>9} {:>9}{names} {:>9}\n", "case", "image", "hpgen", "smallest");
    for row in rows {
        let others = row.others.iter().map(|bytes| format!(" {bytes:>9}")).collect::<String>();
        let ratio = ratio(row.payload, row.smallest_other());
        text.push_str(&format!("{:<44} {:>9} {:>9}{others} {ratio:>8.2}x\n", row.name, row.image, row.payload));
    }
    text.push_str("\nhpgen's size by the other's, in the median\n");
    let (small, large): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.image < LARGE);
    text.push_str(&medians("of all cases:", &rows.iter().collect::<Vec<_>>()));
    text.push_str(&medians("of images under 64 KiB:", &small));
    text.push_str(&medians("of larger ones:", &large));
    let larger: Vec<&Row> = rows.iter().filter(|row| row.payload >= row.smallest_other()).collect();
    text.push_str(&format!("hpgen is the smallest in {} of {} cases", rows.len() - larger.len(), rows.len()));
    for why in [Why::NothingMoved, Why::SmallImage, Why::CodeWhole] {
        let names = larger.iter().filter(|row| row.why() == why).map(|row| row.name.as_str()).collect::<Vec<_>>();
        if !names.is_empty() {
            text.push_str(&format!("\n  not where {} ({}): {}", why.text(), names.len(), names.join(", ")));
        }
    }
    text.push('\n');
    text
}

/// Why another one is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    NothingMoved,
    SmallImage,
    CodeWhole,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::NothingMoved => "the two files differ in a few bytes, since nothing moved",
            Why::SmallImage => "the whole image is small, and what moved in it too",
            Why::CodeWhole => "a large function changed a little: a payload has it whole",
        }
    }
}

impl Row {
    fn why(&self) -> Why {
        if self.smallest_other() < FEW_BYTES {
            Why::NothingMoved
        } else if self.image < LARGE {
            Why::SmallImage
        } else {
            Why::CodeWhole
        }
    }
}

/// Where nothing moves, the others' patches are smaller than this.
const FEW_BYTES: u64 = 200;

/// What a payload weighs whatever is in it shows in images smaller than this.
const LARGE: u64 = 64 << 10;

/// The medians of some cases, in a line.
fn medians(of: &str, rows: &[&Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("  {of}");
    for (index, tool) in OTHERS.iter().enumerate() {
        let ratios = rows.iter().filter_map(|row| Some(ratio(row.payload, *row.others.get(index)?))).collect();
        text.push_str(&format!(" {} {:.2}x,", tool.name, median(ratios)));
    }
    let smallest = rows.iter().map(|row| ratio(row.payload, row.smallest_other())).collect();
    text.push_str(&format!(" the smallest of them {:.2}x ({} cases)\n", median(smallest), rows.len()));
    text
}

fn ratio(ours: u64, theirs: u64) -> f64 {
    ours as f64 / theirs as f64
}

/// The middle one; of an even number, between the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn cases_that_others_do_better_are_named() {
        let row = |name: &str, payload, others| Row { name: name.to_owned(), image: 1000, payload, others };
        let text =
            table(&[row("good", 50, [100, 200, 300]), row("bad", 400, [500, 200, 900]), row("even", 7, [7, 8, 9])]);
        let why = "\n  not where the two files differ in a few bytes, since nothing moved (1): even\n  not where the whole image is small, and what moved in it too (1): bad\n";
        assert!(text.ends_with(&format!("hpgen is the smallest in 1 of 3 cases{why}")), "{text}");
        let medians = "zstd 0.80x, bsdiff 0.88x, xdelta3 0.44x, the smallest of them 1.00x (3 cases)";
        assert!(text.contains(&format!("of all cases: {medians}")), "{text}");
        assert!(text.contains(&format!("of images under 64 KiB: {medians}")), "{text}");
        assert!(!text.contains("of larger ones"), "{text}");
        assert!(table(&[row("good", 1, [2, 3, 4])]).ends_with("hpgen is the smallest in 1 of 1 cases\n"));
    }
}
