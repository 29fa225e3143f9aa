//! The schemas of everything that `hpgen` prints with `--format json`, taken strictly: what a schema does not name, fails.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The folders with schemas.
const FOLDERS: [&str; 4] = ["cli", "diff", "emit", "verify"];

/// The files of all schemas.
pub fn all() -> Vec<PathBuf> {
    let folder = |part| xtask::workspace::root().join(part).join("schema");
    let files = FOLDERS.into_iter().flat_map(|part| fs::read_dir(folder(part)).unwrap());
    files.map(|entry| entry.unwrap().path()).collect()
}

/// Fails if a document is not as the schema says that it names itself.
#[track_caller]
pub fn check(document: &Value) {
    let name = document["schema"].as_str().expect("the document names its schema");
    let file = format!("{}.json", name.replace('/', "-"));
    let path = all().into_iter().find(|path| path.ends_with(&file)).unwrap_or_else(|| panic!("no schema {file}"));
    let problems = problems(&path, document);
    assert!(problems.is_empty(), "{name}: {}\nin {document:#}", problems.join("\n"));
    // A set of documents.
    let parts = document["images"].as_array().into_iter().flatten();
    parts.filter(|part| part.get("schema").is_some()).for_each(check);
}

/// What is wrong with a document.
pub fn problems(schema: &PathBuf, document: &Value) -> Vec<String> {
    let mut schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    close(&mut schema);
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{error} at {}", error.instance_path())).collect()
}

/// Schemas leave room for what later versions may add; here, whatever they do not name is an error.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let names_properties = object.contains_key("properties") && object.contains_key("type");
            object.values_mut().for_each(close);
            if names_properties {
                object.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
