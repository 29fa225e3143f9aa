//! Resources: texts, dialogs, menus, icons and other data that code asks the system for by type and name. They stand in the image that the process
//! has loaded: new code gets the old ones, and does not find what is new.
//!
//! Format: "PE Format", Microsoft, "The .rsrc Section". `object` reads records of it with bounds checks; how many, and how deep, is checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use object::LittleEndian as LE;
use object::pe::{ImageResourceDataEntry, ImageResourceDirectoryEntry};
use object::read::pe::{ResourceDirectory, ResourceDirectoryEntryData, ResourceDirectoryTable, ResourceNameOrId};

use crate::change_set::Reason;
use crate::image::Image;
use crate::rva::Rva;

/// What the system and people read of a file: it says of the running process that it is the old build, which it is.
const OF_THE_FILE: [u16; 2] = [RT_VERSION, RT_MANIFEST];
const RT_VERSION: u16 = 16;
const RT_MANIFEST: u16 = 24;

/// Entries of all directories together. Those of a damaged image may lead to each other.
const MAX_ENTRIES: usize = 1 << 16;
/// Characters of a name.
const MAX_NAME: usize = 1024;
/// Bytes of all resources together, in sizes of the file: those of a damaged image may overlap.
const MAX_OVERLAP: u64 = 4;
/// Types, names, languages.
const LEVELS: usize = 3;

/// How a type, a resource or a language is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Number(u16),
    Name(String),
}

/// Type, name and language, as far as the image has them.
type Path = Vec<Id>;

/// A reason for each resource that differs, in all of its languages.
pub(crate) fn reasons(old: &Image, new: &Image) -> Vec<Reason> {
    let (olds, news) = match (read(old), read(new)) {
        (Ok(olds), Ok(news)) => (olds, news),
        (Err(problem), _) | (_, Err(problem)) => return unreadable(old, new, &problem),
    };
    let mut different: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in olds.keys().chain(news.keys()).collect::<BTreeSet<_>>() {
        let what = match (olds.get(path), news.get(path)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(_), Some(_)) => "changed",
            (None, _) => "came",
            (_, None) => "went",
        };
        let language = path.get(2).map_or_else(String::new, |language| format!("language {language:#} "));
        different.entry(describe(path)).or_default().push(format!("{language}{what}"));
    }
    let reason = |(symbol, what): (String, Vec<String>)| {
        let message = format!(
            "this resource differs ({}): the running process has those of the old build, where new code finds the old one, or none",
            what.join("; ")
        );
        Reason { code: "resource-changed", symbol, message }
    };
    different.into_iter().map(reason).collect()
}

fn unreadable(old: &Image, new: &Image, problem: &str) -> Vec<Reason> {
    if section(old) == section(new) {
        return Vec::new();
    }
    let message =
        format!("the resources are not understood ({problem}), and differ; the running process has the old build's");
    vec![Reason { code: "resource-changed", symbol: ".rsrc".to_owned(), message }]
}

/// The resources' section, from the first directory on.
fn section(image: &Image) -> &[u8] {
    image.resources.map_or(&[], |start| image.bytes_up_to(start..Rva(u32::MAX)))
}

/// All resources but those that describe the file.
fn read(image: &Image) -> Result<BTreeMap<Path, &[u8]>, String> {
    let data = section(image);
    let mut reader =
        Reader { image, directory: ResourceDirectory::new(data), entries: 0, bytes: 0, found: BTreeMap::new() };
    if !data.is_empty() {
        let root = reader.directory.root().map_err(|e| e.to_string())?;
        reader.table(&root, &Path::new())?;
    }
    Ok(reader.found)
}

struct Reader<'a> {
    image: &'a Image,
    directory: ResourceDirectory<'a>,
    entries: usize,
    bytes: u64,
    found: BTreeMap<Path, &'a [u8]>,
}

impl<'a> Reader<'a> {
    fn table(&mut self, table: &ResourceDirectoryTable<'a>, path: &Path) -> Result<(), String> {
        self.entries = self.entries.saturating_add(table.entries.len());
        if path.len() >= LEVELS || self.entries > MAX_ENTRIES {
            return Err("directories within directories".to_owned());
        }
        for entry in table.entries {
            let id = self.id(entry)?;
            if path.is_empty() && OF_THE_FILE.iter().any(|number| id == Id::Number(*number)) {
                continue;
            }
            let path = path.iter().cloned().chain([id]).collect();
            match entry.data(self.directory).map_err(|e| e.to_string())? {
                ResourceDirectoryEntryData::Table(table) => self.table(&table, &path)?,
                ResourceDirectoryEntryData::Data(data) => self.resource(data, path)?,
            }
        }
        Ok(())
    }

    fn id(&self, entry: &ImageResourceDirectoryEntry) -> Result<Id, String> {
        let name = match entry.name_or_id() {
            ResourceNameOrId::Id(number) => return Ok(Id::Number(number)),
            ResourceNameOrId::Name(name) => name.data(self.directory).map_err(|e| e.to_string())?,
        };
        let name = Some(name).filter(|name| name.len() <= MAX_NAME).ok_or("a name without an end")?;
        let units: Vec<u16> = name.iter().map(|unit| unit.get(LE)).collect();
        Ok(Id::Name(String::from_utf16_lossy(&units)))
    }

    fn resource(&mut self, entry: &ImageResourceDataEntry, path: Path) -> Result<(), String> {
        let (start, size) = (Rva(entry.offset_to_data.get(LE)), entry.size.get(LE));
        let data = if size == 0 { Some(&[][..]) } else { self.image.bytes(start, size) };
        let data = data.ok_or_else(|| format!("the {size} bytes at {start} are not in the image"))?;
        self.bytes = self.bytes.saturating_add(u64::from(size));
        if self.bytes / MAX_OVERLAP > self.image.file_size() {
            return Err("resources within resources".to_owned());
        }
        self.found.insert(path, data);
        Ok(())
    }
}

/// Type and name in words.
fn describe(path: &Path) -> String {
    let kind = match path.first() {
        Some(Id::Number(number)) => kind(*number).map_or_else(|| format!("type {number}"), str::to_owned),
        Some(name @ Id::Name(_)) => format!("type {name}"),
        None => "resource".to_owned(),
    };
    path.get(1).map_or_else(|| kind.clone(), |name| format!("{kind} {name}"))
}

/// `RT_*` of `winuser.h`.
fn kind(number: u16) -> Option<&'static str> {
    Some(match number {
        1 => "cursor",
        2 => "bitmap",
        3 => "icon",
        4 => "menu",
        5 => "dialog",
        6 => "string table",
        7 => "font directory",
        8 => "font",
        9 => "accelerators",
        10 => "data",
        11 => "message table",
        12 => "cursor group",
        14 => "icon group",
        21 => "animated cursor",
        22 => "animated icon",
        23 => "HTML",
        _ => return None,
    })
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) if f.alternate() => write!(f, "{number:#x}"),
            Id::Number(number) => write!(f, "{number}"),
            Id::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Where the code section of the fixture begins in memory and in the file.
    const TEXT: u32 = 0x1000;
    const TEXT_IN_FILE: usize = 0x400;

    /// A resource: type, name, language, content.
    type Resource<'a> = (u16, u16, u16, &'a [u8]);

    /// A directory with one entry for each number and place.
    fn table(entries: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 14];
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (number, place) in entries {
            bytes.extend(number.to_le_bytes());
            bytes.extend(place.to_le_bytes());
        }
        bytes
    }

    /// Resources of different types.
    fn section_with(resources: &[Resource<'_>]) -> Vec<u8> {
        const DIRECTORY: u32 = 1 << 31;
        let mut place = 16 + 8 * resources.len() as u32;
        let (mut root, mut rest) = (Vec::new(), Vec::new());
        for (kind, name, language, content) in resources {
            root.push((u32::from(*kind), place | DIRECTORY));
            rest.extend(table(&[(u32::from(*name), (place + 24) | DIRECTORY)]));
            rest.extend(table(&[(u32::from(*language), place + 48)]));
            for field in [TEXT + place + 64, content.len() as u32, 0, 0] {
                rest.extend(field.to_le_bytes());
            }
            rest.extend(*content);
            place += 64 + content.len() as u32;
        }
        [table(&root), rest].concat()
    }

    /// A fixture's image with a section of resources in the place of its code.
    fn image(section: &[u8]) -> Image {
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/constant/old.exe");
        let mut content = fs::read(fixture).unwrap();
        content[TEXT_IN_FILE..TEXT_IN_FILE + section.len()].copy_from_slice(section);
        let headers = u32::from_le_bytes(content[0x3c..0x40].try_into().unwrap()) as usize;
        let directory = headers + 24 + 112 + 2 * 8;
        content[directory..directory + 4].copy_from_slice(&TEXT.to_le_bytes());
        content[directory + 4..directory + 8].copy_from_slice(&(section.len() as u32).to_le_bytes());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        Image::open(file.path()).unwrap()
    }

    fn found(old: &[Resource<'_>], new: &[Resource<'_>]) -> Vec<(String, String)> {
        let of = |resources| image(&section_with(resources));
        let what = |message: &str| message.split(['(', ')']).nth(1).unwrap().to_owned();
        reasons(&of(old), &of(new)).into_iter().map(|reason| (reason.symbol, what(&reason.message))).collect()
    }

    #[test]
    fn resources_that_change_come_or_go() {
        let old: [Resource<'_>; 3] = [(5, 101, 0x409, b"dialog"), (6, 7, 0x409, b"text"), (300, 1, 0, b"own")];
        let new: [Resource<'_>; 3] = [(5, 101, 0x407, b"dialog"), (6, 7, 0x409, b"other"), (300, 1, 0, b"own")];
        let texts = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(symbol, what)| ((*symbol).to_owned(), (*what).to_owned())).collect()
        };
        assert_eq!(
            found(&old, &new),
            texts(&[
                ("dialog 101", "language 0x407 came; language 0x409 went"),
                ("string table 7", "language 0x409 changed")
            ])
        );
        assert_eq!(found(&old[..2], &old), texts(&[("type 300 1", "language 0x0 came")]));
        assert_eq!(found(&old, &old), []);
    }

    #[test]
    fn versions_and_manifests_say_of_the_process_what_it_is() {
        assert_eq!(found(&[(16, 1, 0, b"1.0"), (24, 1, 0, b"old")], &[(16, 1, 0, b"1.1")]), []);
    }

    #[test]
    fn an_order_of_the_linker_is_no_difference() {
        assert_eq!(found(&[(5, 1, 0, b"a"), (6, 7, 0, b"b")], &[(6, 7, 0, b"b"), (5, 1, 0, b"a")]), []);
    }

    #[test]
    fn damaged_directories_are_refused_where_they_differ() {
        let root = u32::MAX << 31;
        let within_itself = image(&table(&[(5, root), (6, root)]));
        assert_eq!(reasons(&within_itself, &within_itself), []);
        let mut beyond = section_with(&[(5, 1, 0, b"a")]);
        beyond[24 + 48..24 + 52].copy_from_slice(&0x7fff_0000_u32.to_le_bytes());
        for damaged in [beyond, table(&[(5, 0x7fff_0000)]), vec![0xff; 20]] {
            let found = reasons(&within_itself, &image(&damaged));
            assert!(matches!(&found[..], [only] if only.symbol == ".rsrc"), "{found:?}");
            assert!(read(&image(&damaged)).is_err());
        }
    }
}
