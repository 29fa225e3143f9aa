//! What `corpus/*.toml` says: where a library's sources come from, how they are compiled, and which fixes are tried.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::workspace;

/// One library in one version of a Debian source package.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Also the folder below `corpus/` that holds our driver program.
    pub library: String,
    /// Where the sources come from.
    pub source: Source,
    /// How they are compiled.
    pub build: Build,
    /// The fixes.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// A Debian source package; its security fixes are files of `debian/patches`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The package's name.
    pub package: String,
    /// Its exact version.
    pub version: String,
}

/// How a library is compiled, without the build system that it comes with. Paths are relative to the package.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// Files to compile; the last part can be `*.c` or another ending.
    pub compile: Vec<String>,
    /// Files that such a pattern means, and that are not compiled.
    pub except: Vec<String>,
    /// Flags for the compiler.
    pub flags: Vec<String>,
    /// Files to copy: the name that is wanted, and the file that the package has.
    pub copy: BTreeMap<String, String>,
    /// Files to write, as the package's own configuration would: name and text.
    pub write: BTreeMap<String, String>,
    /// Windows libraries to link with, for example `ws2_32`.
    pub link: Vec<String>,
    /// Libraries of the corpus, with all their fixes, that this one needs: the names of their manifests.
    pub needs: Vec<String>,
}

/// A security fix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The CVE that the fix is known by, and that names the case.
    pub cve: String,
    /// Others that it fixes.
    #[serde(default)]
    pub also: Vec<String>,
    /// Its files in `debian/patches`, in their order. The baseline has all patches of the series before the first one.
    pub patches: Vec<String>,
    /// What it changes, in a few words.
    pub touches: String,
    /// How a running process shows it; without, it is proven live that nothing else changes.
    pub live: Option<Live>,
    /// What its author would add where hpgen refuses it.
    pub answer: Option<Answer>,
}

/// What makes a refused fix go, as files of ours in the library's folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Rules for `hpgen build --rules`.
    pub rules: String,
    /// Hooks, compiled into the fixed build.
    pub hooks: Option<String>,
    /// Functions of the program that must not run while functions are switched, there and back: objects whose layout changes live
    /// only while they do. They are put into the payload (`build --include`), which is applied and taken out by
    /// `--consistency quiescent`.
    #[serde(default)]
    pub not_during: Vec<String>,
    /// Why that is right.
    pub why: String,
}

impl Answer {
    /// What hpgen is called with besides.
    pub fn options(&self, manifest: &Manifest) -> Vec<PathBuf> {
        let include = self.not_during.iter().flat_map(|name| ["--include".into(), name.into()]);
        ["--rules".into(), manifest.file(&self.rules)].into_iter().chain(include).collect()
    }

    /// How many lines were written for it: those that are neither empty nor a comment, and one for the option that names functions.
    pub fn lines(&self, manifest: &Manifest) -> Result<usize> {
        let mut count = usize::from(!self.not_during.is_empty());
        for name in [Some(&self.rules), self.hooks.as_ref()].into_iter().flatten() {
            let file = manifest.file(name);
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let comments: &[char] = if name.ends_with(".toml") { &['#'] } else { &['/', '*'] };
            let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with(comments);
            count += text.lines().filter(is_code).count();
        }
        Ok(count)
    }
}

/// What the driver prints of a case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The driver's name of the input.
    pub probe: String,
    /// What the baseline makes of it.
    pub vulnerable: String,
    /// What the fixed library makes of it.
    pub fixed: String,
}

/// The folder with the manifests and drivers.
pub fn folder() -> PathBuf {
    workspace::root().join("corpus")
}

/// All manifests with their names, by name.
pub fn all() -> Result<BTreeMap<String, Manifest>> {
    let mut manifests = BTreeMap::new();
    for entry in fs::read_dir(folder()).with_context(|| format!("cannot list {}", folder().display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            manifests.insert(name, read(&path)?);
        }
    }
    Ok(manifests)
}

fn read(path: &Path) -> Result<Manifest> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let mut names: Vec<_> = manifest.cases.iter().map(|case| &case.cve).collect();
    names.sort();
    ensure!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}: two cases of one name", path.display());
    ensure!(manifest.cases.iter().all(|case| !case.patches.is_empty()), "{}: a case without patch", path.display());
    Ok(manifest)
}

impl Manifest {
    /// A file of ours in the library's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        folder().join(&self.library).join(name)
    }

    /// Our driver program.
    pub fn driver(&self) -> PathBuf {
        let folder = folder().join(&self.library);
        let cpp = folder.join("driver.cpp");
        if cpp.is_file() { cpp } else { folder.join("driver.c") }
    }
}
