//! Debian source packages: fetched by `apt-get source` with lists of our own, so that the system's stay as they are and no
//! root's rights are needed, and unpacked without their patches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::manifest::{Case, Source};
use crate::{toolchain, workspace};

/// The releases whose packages, with all their security fixes, can be had.
const SUITES: [(&str, &str); 4] = [
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Package mirrors fail now and then.
const ATTEMPTS: u32 = 3;

/// An unpacked source package. Nothing changes it: what is patched is a copy.
#[derive(Debug, Clone)]
pub struct Package {
    folder: PathBuf,
    series: Vec<String>,
}

impl Package {
    /// Downloads and unpacks it, if it is not here.
    pub fn fetch(source: &Source) -> Result<Self> {
        let place = workspace::target().join("corpus").join("packages");
        // The epoch of a version is no part of file names.
        let version = source.version.split_once(':').map_or(source.version.as_str(), |(_, version)| version);
        let name = format!("{}_{version}", source.package);
        let folder = place.join(&name);
        if !folder.join("debian").is_dir() {
            println!("corpus: fetching {name}");
            let downloads = place.join("downloads");
            fs::create_dir_all(&downloads)?;
            download(source, &downloads)?;
            // Unpacked beside its place, so that an interrupted unpacking is not taken for a whole one.
            let unpacked = place.join(format!("{name}.tmp"));
            if unpacked.exists() {
                fs::remove_dir_all(&unpacked)?;
            }
            let mut unpack = Command::new("dpkg-source");
            unpack.args(["--no-check", "--skip-patches", "--extract"]);
            toolchain::run(unpack.arg(downloads.join(format!("{name}.dsc"))).arg(&unpacked))?;
            fs::rename(&unpacked, &folder)?;
            fs::remove_dir_all(&downloads)?;
        }
        let series = folder.join("debian").join("patches").join("series");
        let series = fs::read_to_string(&series).with_context(|| format!("cannot read {}", series.display()))?;
        Ok(Self { folder, series: series.lines().filter_map(patch_name).collect() })
    }

    /// Makes `place` the source just before the case's fix: with all patches of the series that come before it.
    pub fn baseline(&self, case: &Case, place: &Path) -> Result<()> {
        let first = case.patches.first().and_then(|first| self.series.iter().position(|patch| patch == first));
        let Some(count) = first else {
            bail!("{} has no patch {:?} in its series", self.folder.display(), case.patches.first());
        };
        self.copy(place)?;
        self.patch(place, self.series.iter().take(count))
    }

    /// Makes `place` the source with all its patches.
    pub fn whole(&self, place: &Path) -> Result<()> {
        self.copy(place)?;
        self.patch(place, &self.series)
    }

    /// Applies a case's fix to its baseline.
    pub fn fix(&self, case: &Case, place: &Path) -> Result<()> {
        self.patch(place, &case.patches)
    }

    fn copy(&self, place: &Path) -> Result<()> {
        if place.exists() {
            fs::remove_dir_all(place)?;
        }
        fs::create_dir_all(place.parent().unwrap_or(place))?;
        toolchain::run(Command::new("cp").arg("-R").arg(&self.folder).arg(place))
    }

    fn patch<'a>(&self, place: &Path, patches: impl IntoIterator<Item = &'a String>) -> Result<()> {
        for patch in patches {
            let file = self.folder.join("debian").join("patches").join(patch);
            ensure!(file.is_file(), "{} is no file", file.display());
            let mut command = Command::new("patch");
            command.args(["-p1", "--forward", "--batch", "--silent", "--no-backup-if-mismatch", "--directory"]);
            toolchain::run(command.arg(place).arg("--input").arg(&file)).with_context(|| format!("patch {patch}"))?;
        }
        Ok(())
    }
}

/// The patch that a line of a series file names.
fn patch_name(line: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or_default();
    line.split_whitespace().next().map(str::to_owned)
}

fn download(source: &Source, place: &Path) -> Result<()> {
    let mut attempt = 1;
    loop {
        let mut command = apt("apt-get")?;
        command.current_dir(place).args(["--quiet", "source", "--download-only"]);
        command.arg(format!("{}={}", source.package, source.version));
        match toolchain::run(&mut command) {
            Err(error) if attempt < ATTEMPTS => println!("corpus: trying again after: {error:#}"),
            result => return result,
        }
        thread::sleep(Duration::from_secs(3) * attempt);
        attempt += 1;
    }
}

/// apt with our lists, which are fetched on first use.
fn apt(program: &str) -> Result<Command> {
    let place = workspace::target().join("corpus").join("apt");
    let list = place.join("sources.list");
    let mut command = Command::new(program);
    for option in [
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", place.join("lists").display()),
        format!("Dir::Cache={}", place.join("cache").display()),
        // The folder is nobody else's business, so apt's own user cannot write there.
        "APT::Sandbox::User=root".to_owned(),
    ] {
        command.arg("-o").arg(option);
    }
    if !list.is_file() {
        fs::create_dir_all(place.join("lists").join("partial"))?;
        fs::create_dir_all(place.join("cache").join("archives").join("partial"))?;
        let mirror = mirror()?;
        let lines =
            SUITES.map(|(archive, suite)| format!("deb-src [signed-by={KEYRING}] {mirror}/{archive} {suite} main\n"));
        let fresh = place.join("sources.list.tmp");
        fs::write(&fresh, lines.concat())?;
        fs::rename(&fresh, &list)?;
        let mut update = apt(program)?;
        if let Err(error) = toolchain::run(update.args(["--quiet", "update"])) {
            fs::remove_file(&list)?;
            return Err(error);
        }
    }
    Ok(command)
}

/// Where this system has its packages from: what stands before the archive's name in its own lists.
fn mirror() -> Result<String> {
    let archives = toolchain::output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
    let before = |uri: &str| uri.trim_end_matches('/').strip_suffix("/debian").map(str::to_owned);
    archives.lines().find_map(before).context("no Debian archive among this system's package sources")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_series_as_quilt_does() {
        let series = "# comment\n\nfirst.patch\n#off.patch\nsecond.patch -p1 # why\n";
        let names: Vec<_> = series.lines().filter_map(patch_name).collect();
        assert_eq!(names, ["first.patch", "second.patch"]);
    }
}
