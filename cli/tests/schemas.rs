//! Everything that `hpgen` prints with `--format json` here is as its schema says. What it prints of processes, the live tests check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "command/mod.rs"]
mod command;
#[path = "schemas/mod.rs"]
mod schemas;

use std::fs;
use std::path::Path;

use command::{copy_of, fixtures, hpgen};
use serde_json::Value;

fn printed(folder: &Path, code: i32, arguments: &[&str]) -> Value {
    let ran = hpgen(folder, &[arguments, &["--format", "json"]].concat());
    assert_eq!(ran.code, Some(code), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The goldens are what `hpgen` prints, word by word.
#[test]
fn goldens() {
    let mut seen = 0;
    for fixture in fs::read_dir(fixtures()).unwrap() {
        let Ok(files) = fs::read_dir(fixture.unwrap().path().join("expected")) else { continue };
        for file in files.map(|file| file.unwrap().path()).filter(|file| file.extension().is_some_and(|e| e == "json"))
        {
            schemas::check(&serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap());
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen} goldens");
}

#[test]
fn documents_of_every_command() {
    // With variables, a new import, hooks and assignments among them.
    for name in ["new_global", "new_import", "hooks", "shared_inline"] {
        let folder = copy_of(name);
        let folder = folder.path();
        let built = printed(folder, 0, &["build", "old.exe", "new.exe", "-o", "fix.hpx", "--include", "all"]);
        assert_ne!(built["payload"], Value::Null);
        let documents = [
            built,
            printed(folder, 0, &["check", "old.exe", "new.exe"]),
            printed(folder, 0, &["diff", "old.exe", "new.exe"]),
            printed(folder, 0, &["inspect", "fix.hpx", "--asm", "--old", "old.exe"]),
            printed(folder, 0, &["verify", "fix.hpx", "--old", "old.exe", "--new", "new.exe"]),
            printed(folder, 0, &["verify", "fix.hpx", "--old", "old.exe"]),
            printed(folder, 0, &["symbolize", "fix.hpx", "+0x1000", "+0x10", "0x1001", "--region", "0x2000"]),
            serde_json::from_str(&fs::read_to_string(folder.join("fix.hpx.sym")).unwrap()).unwrap(),
        ];
        documents.iter().for_each(schemas::check);
    }
}

#[test]
fn refusals_and_signatures() {
    let folder = copy_of("data_init");
    schemas::check(&printed(folder.path(), 3, &["build", "old.exe", "new.exe", "-o", "fix.hpx"]));
    let set = printed(folder.path(), 0, &["build", "old.exe", "new.exe", "-o", "fix.hpx", "--accept", "limit=set"]);
    assert_eq!(set["accepted"].as_array().unwrap().len(), 1);
    schemas::check(&set);
    let inspected = printed(folder.path(), 0, &["inspect", "fix.hpx"]);
    assert_eq!(inspected["assignments"].as_array().unwrap().len(), 1);
    schemas::check(&inspected);

    assert_eq!(hpgen(folder.path(), &["keygen", "-o", "key.pem"]).code, Some(0));
    assert_eq!(hpgen(folder.path(), &["sign", "fix.hpx", "--key", "key.pem"]).code, Some(0));
    let signed = printed(folder.path(), 0, &["inspect", "fix.hpx"]);
    assert_eq!(signed["signature"]["valid"], true);
    schemas::check(&signed);
    // For another baseline: nothing of it is right.
    let other = copy_of("constant");
    fs::copy(folder.path().join("fix.hpx"), other.path().join("fix.hpx")).unwrap();
    let wrong = printed(other.path(), 1, &["verify", "fix.hpx", "--old", "old.exe", "--new", "new.exe"]);
    assert_eq!(wrong["verified"], false);
    schemas::check(&wrong);
}

/// Payloads of several images have documents of their own.
#[test]
fn sets() {
    let folder = copy_of("constant");
    let other = copy_of("string");
    for (from, to) in [("old", "other_old"), ("new", "other_new")] {
        for extension in ["exe", "pdb"] {
            let to = folder.path().join(format!("{to}.{extension}"));
            fs::copy(other.path().join(format!("{from}.{extension}")), to).unwrap();
        }
    }
    let folder = folder.path();
    let first = ["old.exe", "new.exe", "--old-pdb", "old.pdb", "--new-pdb", "new.pdb"];
    let and = ["--and", "other_old.exe", "other_new.exe"];
    let builds = ["--old", "old.exe", "--new", "new.exe", "--old", "other_old.exe", "--new", "other_new.exe"];
    let documents = [
        printed(folder, 0, &[&["build", "-o", "fix.hpx"], &first[..], &and].concat()),
        printed(folder, 0, &[&["check"], &first[..], &and].concat()),
        printed(folder, 0, &["inspect", "fix.hpx"]),
        printed(folder, 0, &[&["verify", "fix.hpx"], &builds[..]].concat()),
    ];
    for document in &documents {
        assert!(document["schema"].as_str().unwrap().ends_with("-set/1"), "{document:#}");
        schemas::check(document);
    }
}

/// A schema is only worth something if it says no.
#[test]
fn schemas_notice_what_is_missing_added_or_of_another_type() {
    let folder = copy_of("constant");
    let good = printed(folder.path(), 0, &["build", "old.exe", "new.exe", "-o", "fix.hpx"]);
    let schema = schemas::all().into_iter().find(|path| path.ends_with("hpgen-diff-1.json")).unwrap();
    assert_eq!(schemas::problems(&schema, &good), [] as [String; 0]);
    let spoiled: [fn(&mut Value); 4] = [
        |value| value["more"] = Value::Null,
        |value| value["payload"]["more"] = Value::Null,
        |value| value["verdict"] = "perhaps".into(),
        |value| drop(value["functions"][0].as_object_mut().unwrap().remove("why")),
    ];
    for spoil in spoiled {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert_eq!(schemas::problems(&schema, &bad).len(), 1, "{bad:#}");
    }
}

/// Those too that only live tests use.
#[test]
fn schemas_are_sound() {
    let schemas = schemas::all();
    assert!(schemas.len() >= 8, "{schemas:?}");
    for schema in schemas {
        assert_ne!(schemas::problems(&schema, &Value::Null), [] as [String; 0], "{}", schema.display());
    }
}
