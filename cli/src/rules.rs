//! Rules from `hpgen.toml` and from the command line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use hpgen_emit::rules::{Action, Rule};
use serde::Deserialize;

/// The file that is read where none is named, if it is there.
const DEFAULT: &str = "hpgen.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accept: Vec<Rule>,
}

/// The rules of a file, and those of the command line, which come first.
pub fn read(named: Option<&PathBuf>, given: &[String]) -> Result<Vec<Rule>> {
    let mut rules = given.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let path = named.map(PathBuf::as_path).or(Some(Path::new(DEFAULT)).filter(|path| path.is_file()));
    if let Some(path) = path {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        rules.extend(file.accept);
    }
    Ok(rules)
}

/// `SYMBOL=ACTION`.
fn parse(text: &str) -> Result<Rule> {
    let unfit = || anyhow!("--accept {text}: write SYMBOL=keep, SYMBOL=set or SYMBOL=hook");
    let (symbol, action) = text.rsplit_once('=').filter(|(symbol, _)| !symbol.is_empty()).ok_or_else(unfit)?;
    let action = match action {
        "keep" => Action::Keep,
        "set" => Action::Set,
        "hook" => Action::Hook,
        _ => return Err(unfit()),
    };
    Ok(Rule { symbol: symbol.to_owned(), reason: None, action, why: None })
}
