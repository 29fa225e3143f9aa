//! The test programs and fixtures do what they say, in every variant. Runs Windows programs, so only where `HPGEN_LIVE` is 1.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::child;
use xtask::{fixtures, live, transcript, wine, workspace};

type Outcome = Result<(), Box<dyn Error>>;

/// What a program prints, with plain line ends; it has to end with exit code 0.
fn printed(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let ended = child::run(command, live::PATIENCE)?;
    if ended.code == Some(0) { Ok(ended.stdout) } else { Err(ended.to_string().into()) }
}

#[test]
fn lua_host_keeps_its_state_and_shows_the_fix() -> Outcome {
    if !live::enabled("lua host keeps its state and shows the fix") {
        return Ok(());
    }
    let script = wine::windows_path(&workspace::testdata().join("lua_host").join("busy.lua"));
    for (variant, fixed) in [("old", false), ("new", true), ("relinked", false)] {
        let text = printed(wine::command(workspace::program("lua_host", variant)).args([&script, "0.3"]))?;
        let lines = transcript::lua(&text)?;
        assert!(!lines.is_empty());
        for line in &lines {
            assert_eq!((line.ult, line.reversed.as_str(), line.note.is_some()), (fixed, "negph", fixed), "{variant}");
        }
    }
    Ok(())
}

#[test]
fn sqlite_host_keeps_its_state_and_shows_the_fix() -> Outcome {
    if !live::enabled("sqlite host keeps its state and shows the fix") {
        return Ok(());
    }
    for (variant, fixed) in [("old", false), ("new", true), ("relinked", false)] {
        let text = printed(wine::command(workspace::program("sqlite_host", variant)).arg("0.3"))?;
        let lines = transcript::sqlite(&text)?;
        assert!(!lines.is_empty());
        for line in &lines {
            assert_eq!((line.has_quarter, line.has_question_mark), (fixed, fixed), "{variant}");
        }
    }
    Ok(())
}

#[test]
fn hosts_end_when_the_stop_file_is_there() -> Outcome {
    if !live::enabled("hosts end when the stop file is there") {
        return Ok(());
    }
    let stop = wine::windows_path(&workspace::root().join("Cargo.toml"));
    let script = wine::windows_path(&workspace::testdata().join("lua_host").join("busy.lua"));
    let lua = printed(wine::command(workspace::program("lua_host", "old")).args([&script, "60", &stop]))?;
    assert_eq!(transcript::lua(&lua)?.len(), 1);
    let sqlite = printed(wine::command(workspace::program("sqlite_host", "old")).args(["60", &stop]))?;
    assert_eq!(transcript::sqlite(&sqlite)?.len(), 1);
    Ok(())
}

/// The comment at the top of each fixture quotes every line that the fixture prints.
#[test]
fn fixtures_print_what_their_comments_promise() -> Outcome {
    if !live::enabled("fixtures print what their comments promise") {
        return Ok(());
    }
    for name in fixtures::all()? {
        let folder = workspace::testdata().join("fixtures").join(&name);
        for variant in fixtures::VARIANTS {
            let promised = top_comment(&folder, variant)?;
            let text = printed(&mut wine::command(folder.join(format!("{variant}.exe"))))?;
            assert_eq!(text.lines().count(), 3, "{name} {variant} printed {text:?}");
            for line in text.lines() {
                assert!(promised.contains(&format!("\"{line}\"")), "{name} {variant} printed {line:?}");
            }
        }
    }
    Ok(())
}

fn top_comment(folder: &Path, variant: &str) -> Result<String, Box<dyn Error>> {
    let names = [format!("{variant}.c"), "main.c".to_owned(), "main.cpp".to_owned()];
    let source = names.iter().map(|name| folder.join(name)).find(|source| source.exists());
    let source = source.ok_or_else(|| format!("{} has no source", folder.display()))?;
    let text = fs::read_to_string(source)?;
    Ok(text.split("*/").next().unwrap_or_default().to_owned())
}
