//! Exact relocations from the object files that the PDB names, where they are still on disk.
//!
//! A contribution of the image is recognised as a section of its object file by its size and by the checksum of the
//! section's bytes before relocation, which linkers record ("Section Contribution Substream", `DataCrc`; lld and Microsoft's
//! linker compute it alike). A relocation counts only where the image's field holds exactly what the relocation makes of it: an object
//! file that was compiled anew since then proves nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use object::LittleEndian as LE;
use object::coff::Symbol as _;
use object::pe;
use object::read::archive::ArchiveFile;
use object::read::coff::{CoffBigFile, CoffFile, CoffHeader};
use object::read::{SectionIndex, SymbolIndex};
use rayon::prelude::*;

use crate::exact_fields::{ExactField, FieldKind, FieldSet};
use crate::image::Image;
use crate::mapped_file;
use crate::rva::Rva;
use crate::symbols::{Contribution, Symbols};

/// Reads all object files of an image that can be found.
pub(crate) fn load(image: &Image, symbols: &Symbols) -> FieldSet {
    let mut by_module: BTreeMap<usize, Vec<&Contribution>> = BTreeMap::new();
    for contribution in &symbols.contributions {
        by_module.entry(contribution.module).or_default().push(contribution);
    }
    let names = names_by_address(symbols);
    let addresses = addresses_by_name(symbols);
    let context = Context { image, names, addresses };
    let found: Vec<Found> = by_module
        .par_iter()
        .filter_map(|(module, contributions)| {
            let module = symbols.modules.get(*module)?;
            let file = mapped_file::map(&find(image, &module.object_file)?).ok()?;
            let member = (module.object_file != module.path).then(|| module.short_name());
            context.read(&file, member, contributions)
        })
        .collect();
    let (fields, covered): (Vec<_>, Vec<_>) = found.into_iter().map(|one| (one.fields, one.covered)).unzip();
    FieldSet::new(fields.into_iter().flatten(), covered.into_iter().flatten())
}

/// The object file where the linker found it, or of the same name beside the image.
fn find(image: &Image, path: &str) -> Option<PathBuf> {
    if path.is_empty() {
        return None;
    }
    let path = Path::new(path);
    let folder = image.path().parent()?;
    [path.to_owned(), folder.join(path), folder.join(path.file_name()?)].into_iter().find(|path| path.is_file())
}

fn names_by_address(symbols: &Symbols) -> HashMap<Rva, Vec<&str>> {
    let mut names: HashMap<Rva, Vec<&str>> = HashMap::new();
    let publics = symbols.publics.iter().map(|p| (p.rva, p.name.as_str()));
    let procedures = symbols.procedures.iter().map(|p| (p.rva, p.name.as_str()));
    let variables = symbols.variables.iter().map(|v| (v.rva, v.name.as_str()));
    for (rva, name) in publics.chain(procedures).chain(variables) {
        names.entry(rva).or_default().push(name);
    }
    names
}

/// Addresses of names that only one public symbol has.
fn addresses_by_name(symbols: &Symbols) -> HashMap<&str, Rva> {
    symbols.publics.iter().map(|p| (p.name.as_str(), p.rva)).collect()
}

struct Context<'a> {
    image: &'a Image,
    names: HashMap<Rva, Vec<&'a str>>,
    addresses: HashMap<&'a str, Rva>,
}

/// What one object file gave.
#[derive(Default)]
struct Found {
    fields: Vec<(Rva, ExactField)>,
    covered: Vec<std::ops::Range<Rva>>,
}

impl Context<'_> {
    fn read(&self, file: &Mmap, member: Option<&str>, contributions: &[&Contribution]) -> Option<Found> {
        let data: &[u8] = match member {
            None => file,
            Some(member) => {
                let archive = ArchiveFile::parse(&file[..]).ok()?;
                let is_member =
                    |name: &[u8]| name.rsplit(|b| matches!(b, b'/' | b'\\')).next() == Some(member.as_bytes());
                archive.members().flatten().find(|m| is_member(m.name()))?.data(&file[..]).ok()?
            }
        };
        if let Ok(object) = CoffFile::<&[u8]>::parse(data) {
            return Some(self.object(data, &object, contributions));
        }
        CoffBigFile::<&[u8]>::parse(data).ok().map(|object| self.object(data, &object, contributions))
    }

    fn object<'d, C: CoffHeader>(
        &self,
        data: &'d [u8],
        object: &CoffFile<'d, &'d [u8], C>,
        contributions: &[&Contribution],
    ) -> Found {
        let placed = self.place_sections(data, object, contributions);
        let mut found = Found::default();
        for (section, contribution) in &placed {
            let Ok(header) = object.coff_section_table().section(SectionIndex(*section)) else { continue };
            let Ok(relocations) = header.coff_relocations(data) else { continue };
            let contents = header.coff_data(data).unwrap_or(&[]);
            let fields: Option<Vec<_>> = relocations
                .iter()
                .map(|relocation| self.field(object, &placed, contribution, contents, relocation))
                .collect();
            // One relocation that the image does not bear out: this is not the section that was linked.
            if let Some(fields) = fields {
                found.fields.extend(fields.into_iter().flatten());
                found.covered.push(contribution.range.clone());
            }
        }
        found
    }

    /// Which contribution each section became, by section number from 1.
    fn place_sections<'c, 'd, C: CoffHeader>(
        &self,
        data: &'d [u8],
        object: &CoffFile<'d, &'d [u8], C>,
        contributions: &[&'c Contribution],
    ) -> BTreeMap<usize, &'c Contribution> {
        let mut by_content: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
        for (index, header) in object.coff_section_table().enumerate() {
            let contents = header.coff_data(data).unwrap_or(&[]);
            by_content.entry((header.size_of_raw_data.get(LE), jam_crc(contents))).or_default().push(index.0);
        }
        let names = symbol_names(object);
        let mut placed = BTreeMap::new();
        let mut wanted: HashMap<(u32, u32), Vec<&'c Contribution>> = HashMap::new();
        for contribution in contributions {
            let size = contribution.range.end.0 - contribution.range.start.0;
            wanted.entry((size, contribution.checksum)).or_default().push(contribution);
        }
        for (key, contributions) in wanted {
            let Some(sections) = by_content.get(&key) else { continue };
            match (sections.as_slice(), contributions.as_slice()) {
                ([section], [contribution]) => {
                    placed.insert(*section, *contribution);
                }
                // Equal sections are told apart by the symbols that they define.
                _ => {
                    for contribution in contributions {
                        let Some(here) = self.names.get(&contribution.range.start) else { continue };
                        let names_of = |section: &usize| names.get(section).into_iter().flatten().map(String::as_str);
                        let exact = only(sections, |section| names_of(section).any(|name| here.contains(&name)));
                        let found = exact.or_else(|| {
                            only(sections, |section| names_of(section).any(|name| here.contains(&local_static(name))))
                        });
                        if let Some(section) = found {
                            placed.insert(section, contribution);
                        }
                    }
                }
            }
        }
        placed
    }

    /// The image's field of one relocation. `None`: the image does not hold what the relocation would make of it. `Some(None)`: its
    /// target is not known, or it is no reference.
    fn field<'d, C: CoffHeader>(
        &self,
        object: &CoffFile<'d, &'d [u8], C>,
        placed: &BTreeMap<usize, &Contribution>,
        contribution: &Contribution,
        contents: &[u8],
        relocation: &pe::ImageRelocation,
    ) -> Option<Option<(Rva, ExactField)>> {
        let offset = relocation.virtual_address.get(LE);
        let place = contribution.range.start.checked_add(offset)?;
        let Some((base, is_section)) = self.symbol_address(object, placed, relocation) else { return Some(None) };
        let addend32 =
            || Some(i64::from(i32::from_le_bytes(contents.get(offset as usize..)?.get(..4)?.try_into().ok()?)));
        let stored32 = || self.image.u32_at(place);
        let (kind, target) = match relocation.typ.get(LE).0 {
            // ADDR64
            1 => {
                let addend = i64::from_le_bytes(contents.get(offset as usize..)?.get(..8)?.try_into().ok()?);
                (FieldKind::Address, self.image.relocated_target(place).filter(|t| t.distance_from(base) == addend)?)
            }
            // ADDR32NB
            3 => {
                let target = Rva(stored32()?);
                (FieldKind::Rva, Some(target).filter(|t| Some(t.distance_from(base)) == addend32())?)
            }
            // REL32, REL32_1 to REL32_5
            kind @ 4..=9 => {
                let end = place.checked_add(4 + u32::from(kind - 4))?;
                let target = end.checked_offset(i64::from(stored32()?.cast_signed()))?;
                (FieldKind::Relative, Some(target).filter(|t| Some(t.distance_from(base)) == addend32())?)
            }
            // SECREL: checked against the start of the target's section.
            11 => {
                let section = self.image.section_at(base)?.range.start;
                let target = section.checked_add(stored32()?)?;
                (FieldKind::SectionOffset, Some(target).filter(|t| Some(t.distance_from(base)) == addend32())?)
            }
            _ => return Some(None),
        };
        Some(Some((place, ExactField { kind, target, symbol: (!is_section).then_some(base) })))
    }

    /// Where a relocation's symbol is in the image, and whether it stands for its whole section only.
    fn symbol_address<'d, C: CoffHeader>(
        &self,
        object: &CoffFile<'d, &'d [u8], C>,
        placed: &BTreeMap<usize, &Contribution>,
        relocation: &pe::ImageRelocation,
    ) -> Option<(Rva, bool)> {
        let table = object.coff_symbol_table();
        let symbol = table.symbol(SymbolIndex(relocation.symbol_table_index.get(LE) as usize)).ok()?;
        let name = symbol.name(table.strings()).ok().and_then(|name| std::str::from_utf8(name).ok());
        let is_section = symbol.has_aux_section();
        let here = usize::try_from(symbol.section_number().0).ok().and_then(|section| placed.get(&section));
        if let Some(contribution) = here {
            return contribution.range.start.checked_add(symbol.value()).map(|rva| (rva, is_section));
        }
        // Defined elsewhere, or in a duplicate that the linker dropped: only names that the linker resolves lead there.
        let is_linked =
            matches!(symbol.storage_class(), pe::IMAGE_SYM_CLASS_EXTERNAL | pe::IMAGE_SYM_CLASS_WEAK_EXTERNAL);
        if is_section || !is_linked {
            return None;
        }
        self.addresses.get(name?).map(|rva| (*rva, false))
    }
}

/// The one section that something is true of; none if it is true of several.
fn only(sections: &[usize], is_wanted: impl Fn(&usize) -> bool) -> Option<usize> {
    let mut wanted = sections.iter().filter(|section| is_wanted(section));
    wanted.next().filter(|_| wanted.next().is_none()).copied()
}

/// The source's name of a local static variable: LLVM puts the function's name before it, and a number behind it where several
/// would share the name.
fn local_static(symbol: &str) -> &str {
    let without_number = match symbol.rsplit_once('.') {
        Some((before, number)) if number.chars().all(|c| c.is_ascii_digit()) => before,
        _ => symbol,
    };
    without_number.rsplit_once('.').map_or(without_number, |(_, name)| name)
}

/// Names of the symbols that stand at each section's start, by section number.
fn symbol_names<'d, C: CoffHeader>(object: &CoffFile<'d, &'d [u8], C>) -> HashMap<usize, Vec<String>> {
    let table = object.coff_symbol_table();
    let mut names: HashMap<usize, Vec<String>> = HashMap::new();
    for (_, symbol) in table.iter() {
        let Ok(section) = usize::try_from(symbol.section_number().0) else { continue };
        if symbol.value() != 0 || symbol.has_aux_section() {
            continue;
        }
        if let Some(name) = symbol.name(table.strings()).ok().and_then(|name| std::str::from_utf8(name).ok()) {
            names.entry(section).or_default().push(name.to_owned());
        }
    }
    names
}

/// The checksum of a contribution: CRC-32 that starts at zero and is not inverted (LLVM's `JamCRC`).
pub(crate) fn jam_crc(data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    hasher.update(data);
    !hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_statics_have_their_name_of_the_source() {
        assert_eq!(local_static("pager_name.fake"), "fake");
        assert_eq!(local_static("pager_name.fake.3"), "fake");
        assert_eq!(local_static("fake"), "fake");
    }

    #[test]
    fn only_one_of_several_is_taken() {
        assert_eq!(only(&[1, 2, 3], |section| *section == 2), Some(2));
        assert_eq!(only(&[1, 2, 3], |section| *section > 1), None);
        assert_eq!(only(&[1, 2, 3], |section| *section > 3), None);
    }
}
