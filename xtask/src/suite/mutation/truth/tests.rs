//! The truth over object files that are written here, symbol by symbol.

use object::pe::{self, RelocationType};
use object::write::{Object, Relocation, StandardSection, Symbol, SymbolId, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope};

use super::link_map::LinkMap;
use super::object_file::ObjectFile;
use super::{Change, Kind, Modules, Truth};

/// An object with `caller`, which names a string of its own section, a number in a shared section, and a function.
struct Program<'a> {
    code: &'a [u8],
    text: &'a [u8],
    text_name: &'a str,
    number: &'a [u8],
    padding: u64,
    callee: &'a str,
    variable: &'a [u8],
}

/// Four fields of relocations, and an instruction.
const fn code(instruction: u8) -> [u8; 17] {
    let mut code = [0; 17];
    code[16] = instruction;
    code
}

const PROGRAM: Program<'_> = Program {
    code: &code(0x90),
    text: b"text\0",
    text_name: ".str",
    number: &[1, 0, 0, 0],
    padding: 4,
    callee: "callee",
    variable: &[7, 0, 0, 0],
};

fn symbol(object: &mut Object<'_>, name: &str) -> SymbolId {
    object.add_symbol(Symbol {
        name: name.into(),
        value: 0,
        size: 0,
        kind: SymbolKind::Data,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Undefined,
        flags: SymbolFlags::None,
    })
}

impl Program<'_> {
    fn object(&self) -> ObjectFile {
        let mut object = Object::new(BinaryFormat::Coff, Architecture::X86_64, Endianness::Little);
        let text = object.add_subsection(StandardSection::ReadOnlyData, self.text_name.as_bytes());
        let text_symbol = symbol(&mut object, self.text_name);
        object.add_symbol_data(text_symbol, text, self.text, 1);
        // The numbers of all functions are in one section, without names.
        let numbers = object.section_id(StandardSection::ReadOnlyData);
        object.append_section_data(numbers, &vec![0; self.padding as usize], 1);
        let number = object.append_section_data(numbers, self.number, 1);
        let numbers_symbol = object.section_symbol(numbers);
        let callee = symbol(&mut object, self.callee);
        let variable = symbol(&mut object, "variable");
        let data = object.add_subsection(StandardSection::Data, b"variable");
        object.add_symbol_data(variable, data, self.variable, 4);
        let code = object.add_subsection(StandardSection::Text, b"caller");
        let caller = symbol(&mut object, "caller");
        object.add_symbol_data(caller, code, self.code, 16);
        for (offset, symbol, addend) in
            [(0, text_symbol, 0), (4, numbers_symbol, number), (8, callee, 0), (12, variable, 0)]
        {
            let flags = RelocationFlags::Coff { typ: RelocationType(pe::IMAGE_REL_AMD64_REL32.0) };
            // What the field holds is four less here: `object` counts from the field's start.
            let relocation = Relocation { offset, symbol, addend: addend as i64 - 4, flags };
            object.add_relocation(code, relocation).unwrap();
        }
        ObjectFile::parse("m.o".to_owned(), &object.write().unwrap()).unwrap()
    }

    fn truth(&self) -> Truth {
        let symbols = [".str", ".str.7", "variable", "caller"];
        let mut map = "00001000 00000100    16         m.o:(.text)\n".to_owned();
        for (index, name) in symbols.iter().enumerate() {
            map += &format!("{:08x} 00000000     0                 {name}\n", 0x1000 + index);
        }
        Truth::of(vec![self.object()], LinkMap::parse(&map), Modules::Sources)
    }

    /// Names of the functions and variables that are not the same.
    fn changed(&self) -> Vec<String> {
        let changes = PROGRAM.truth().changes(&self.truth());
        changes
            .into_iter()
            .filter(|change| matches!(change.kind, Kind::Function | Kind::Variable))
            .map(|change| change.name)
            .collect()
    }
}

#[test]
fn the_same_objects_have_no_changes() {
    assert_eq!(PROGRAM.truth().changes(&PROGRAM.truth()), []);
}

#[test]
fn bytes_and_names_count() {
    assert_eq!(Program { code: &code(0xcc), ..PROGRAM }.changed(), ["caller"]);
    assert_eq!(Program { callee: "another", ..PROGRAM }.changed(), ["caller"]);
}

#[test]
fn constants_count_by_what_they_hold() {
    assert_eq!(Program { text: b"next\0", ..PROGRAM }.changed(), ["caller"]);
    assert_eq!(Program { text_name: ".str.7", ..PROGRAM }.changed(), [] as [&str; 0]);
    assert_eq!(Program { number: &[2, 0, 0, 0], ..PROGRAM }.changed(), ["caller"]);
    assert_eq!(Program { padding: 12, ..PROGRAM }.changed(), [] as [&str; 0]);
}

#[test]
fn variables_count_by_name() {
    let changed = Program { variable: &[8, 0, 0, 0], ..PROGRAM };
    assert_eq!(changed.changed(), ["variable"]);
    let (name, place) = ("variable".to_owned(), vec![0x1002]);
    let expected = Change { kind: Kind::Variable, name, old: place.clone(), new: place, is_cosmetic: false };
    assert_eq!(PROGRAM.truth().changes(&changed.truth()), [expected]);
}
