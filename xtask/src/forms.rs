//! `cargo xtask forms`: how many functions of each test program can be redirected without stopping a thread, what the others demand, and why some cannot be
//! redirected.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hpgen_diff::program::Program;
use hpgen_emit::sites::Survey;

use crate::toolchain::Toolchain;
use crate::{programs, workspace};

/// Folders of builds that are the same code once more.
const REPEATED: [&str; 4] = ["new", "relinked", "obj", "deps"];

/// Prints the table: of the test programs, of what the suites have built, and of everything in `folders`.
pub fn forms(folders: &[PathBuf]) -> Result<()> {
    programs::build_all(&Toolchain::find()?)?;
    let own = [workspace::target().join("testdata"), workspace::target().join("suite")];
    let mut images = Vec::new();
    for folder in own.iter().filter(|folder| folder.is_dir()).chain(folders) {
        find_images(folder, folder, &mut images)?;
    }
    ensure!(!images.is_empty(), "no images with their PDBs beside them");
    println!(
        "{:>9} {:>18} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "functions", "no stop", "by gap", "stop", "entry", "body", "callers", "refused"
    );
    for (name, path) in images {
        let survey = match Program::load(&path, None) {
            Ok(program) => Survey::of(&program),
            Err(error) => {
                println!("skipped: {name}: {error}");
                continue;
            }
        };
        let share = 100.0 * survey.no_stop as f64 / survey.all().max(1) as f64;
        println!(
            "{:>9} {:>10} {share:>5.1} % {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  {name}",
            survey.all(),
            survey.no_stop,
            survey.by_gap,
            survey.stop,
            survey.entry,
            survey.body,
            survey.callers,
            survey.refused
        );
        for (function, obstacle) in &survey.obstacles {
            println!("{:>12} {function}: {obstacle}", "-");
        }
    }
    Ok(())
}

/// Images with a PDB beside them, by name.
fn find_images(root: &Path, folder: &Path, images: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_repeated = REPEATED.contains(&name.as_str()) || name.starts_with("image-");
        if path.is_dir() && !is_repeated {
            find_images(root, &path, images)?;
        }
        let is_image = path.extension().is_some_and(|extension| extension == "exe" || extension == "dll");
        if is_image && path.with_extension("pdb").is_file() {
            images.push((path.strip_prefix(root).unwrap_or(&path).display().to_string(), path));
        }
    }
    Ok(())
}
