//! Language-specific exception tables, as a list of what they say, so that two of them can be compared and carried.
//!
//! Sources: "x64 exception handling" (C scope tables); the headers `ehdata.h` and `ehdata4_export.h` that ship with Microsoft's
//! compiler, and LLVM's `WinException.cpp`, which writes the same tables (version 3 and 4 of `FuncInfo`, GS data).

mod itanium;

use crate::image::Image;
use crate::rva::Rva;

/// One statement of an exception table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A number: a state, a count, a stack offset, flags.
    Number(i64),
    /// An address of code: a place in the function itself or in a funclet, or a function of its own (a destructor).
    Code(Rva),
    /// A piece of the function that runs on its frame: a catch block, a clean-up, a filter, a `__finally`.
    Funclet(Rva),
    /// An address of data: a type descriptor.
    Data(Rva),
}

/// Why tables cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The handler is not one whose tables are known.
    UnknownHandler,
    /// The tables do not make sense.
    Malformed(&'static str),
}

/// The tables of one handler, with where their bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// What they say, in order.
    pub items: Vec<Item>,
    /// Their bytes: first the data behind the unwind record, then every table that it leads to.
    pub pieces: Vec<std::ops::Range<Rva>>,
    /// Fields that lead somewhere, by address.
    pub fields: Vec<(Rva, Field)>,
}

/// What a field of exception tables leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// An RVA, to code or data outside the tables.
    Item(Item),
    /// An address of eight bytes, to the same.
    Address(Item),
    /// A distance from the field, to the same.
    Distance(Item),
    /// An RVA, to another piece of the tables.
    Piece(Rva),
}

impl Field {
    /// Its size in bytes.
    pub const fn width(self) -> u32 {
        match self {
            Field::Item(_) | Field::Distance(_) | Field::Piece(_) => 4,
            Field::Address(_) => 8,
        }
    }
}

/// More entries than this are not believed.
const MAX_ENTRIES: u32 = 1 << 16;

/// Reads the tables that `handler` uses for a function that begins at `function`, from `data` on.
///
/// # Errors
/// When the handler is unknown or its tables are damaged.
pub fn read(image: &Image, handler: &str, function: Rva, data: Rva) -> Result<Tables, Failure> {
    let tables = Tables { items: Vec::new(), pieces: vec![data..data], fields: Vec::new() };
    let mut reader = Reader { image, function, place: data, items: Vec::new(), tables };
    match handler {
        "__C_specific_handler" | "__C_specific_handler_noexcept" => reader.scope_table()?,
        "__GSHandlerCheck" => reader.stack_cookie()?,
        "__GSHandlerCheck_SEH" | "__GSHandlerCheck_SEH_noexcept" => {
            reader.scope_table()?;
            reader.stack_cookie()?;
        }
        "__CxxFrameHandler3" | "__CxxFrameHandler2" | "__CxxFrameHandler" => reader.function_info3()?,
        "__CxxFrameHandler4" => reader.function_info4()?,
        "__GSHandlerCheck_EH" => {
            reader.function_info3()?;
            reader.stack_cookie()?;
        }
        "__GSHandlerCheck_EH4" => {
            reader.function_info4()?;
            reader.stack_cookie()?;
        }
        "__gxx_personality_seh0" | "__gcc_personality_seh0" | "rust_eh_personality" => reader.itanium()?,
        _ => return Err(Failure::UnknownHandler),
    }
    let Reader { items, mut tables, place, .. } = reader;
    tables.items = items;
    if let Some(first) = tables.pieces.first_mut() {
        first.end = place;
    }
    Ok(tables)
}

type Read<T> = Result<T, Failure>;

const CUT_OFF: Failure = Failure::Malformed("the table is cut off");

struct Reader<'a> {
    image: &'a Image,
    function: Rva,
    place: Rva,
    items: Vec<Item>,
    tables: Tables,
}

impl Reader<'_> {
    fn byte(&mut self) -> Read<u8> {
        let &[byte] = self.image.bytes(self.place, 1).ok_or(CUT_OFF)? else { return Err(CUT_OFF) };
        self.place = self.place.checked_add(1).ok_or(CUT_OFF)?;
        Ok(byte)
    }

    fn word(&mut self) -> Read<u32> {
        let value = self.image.u32_at(self.place).ok_or(CUT_OFF)?;
        self.place = self.place.checked_add(4).ok_or(CUT_OFF)?;
        Ok(value)
    }

    /// A compressed unsigned number of `ehdata4_export.h`: the low bits of the first byte give the length.
    fn compressed(&mut self) -> Read<u32> {
        let first = self.byte()?;
        let length = match first & 0xf {
            bits if bits & 1 == 0 => 1,
            bits if bits & 3 == 1 => 2,
            bits if bits & 7 == 3 => 3,
            7 => 4,
            _ => return self.word(),
        };
        let mut value = u32::from(first);
        for position in 1..length {
            value |= u32::from(self.byte()?) << (8 * position);
        }
        Ok(value >> length)
    }

    fn count(&mut self, value: u32) -> Read<u32> {
        self.items.push(Item::Number(i64::from(value)));
        if value > MAX_ENTRIES { Err(Failure::Malformed("an absurd number of entries")) } else { Ok(value) }
    }

    fn number(&mut self) -> Read<()> {
        let value = self.word()?.cast_signed();
        self.items.push(Item::Number(i64::from(value)));
        Ok(())
    }

    fn compressed_number(&mut self) -> Read<()> {
        let value = self.compressed()?;
        self.items.push(Item::Number(i64::from(value)));
        Ok(())
    }

    /// An RVA of code; 0 stands for none.
    fn code(&mut self) -> Read<()> {
        self.rva(Item::Code)
    }

    fn funclet(&mut self) -> Read<()> {
        self.rva(Item::Funclet)
    }

    fn data(&mut self) -> Read<()> {
        self.rva(Item::Data)
    }

    fn rva(&mut self, item: fn(Rva) -> Item) -> Read<()> {
        let place = self.place;
        let value = self.word()?;
        if value == 0 {
            self.items.push(Item::Number(0));
        } else {
            self.items.push(item(Rva(value)));
            self.tables.fields.push((place, Field::Item(item(Rva(value)))));
        }
        Ok(())
    }

    /// The RVA of another table, which is read before going on. 0 stands for none.
    fn table(&mut self, read: impl FnOnce(&mut Self) -> Read<()>) -> Read<()> {
        let field = self.place;
        let rva = self.word()?;
        self.items.push(Item::Number(i64::from(rva != 0)));
        if rva == 0 {
            return Ok(());
        }
        self.tables.fields.push((field, Field::Piece(Rva(rva))));
        let place = std::mem::replace(&mut self.place, Rva(rva));
        let result = read(self);
        let end = std::mem::replace(&mut self.place, place);
        self.tables.pieces.push(Rva(rva)..end);
        result
    }

    /// `SCOPE_TABLE_AMD64`: begin, end, handler, target.
    fn scope_table(&mut self) -> Read<()> {
        let count = self.word()?;
        for _ in 0..self.count(count)? {
            self.code()?;
            self.code()?;
            // A filter's address, 1 for "always", or the termination handler.
            if self.image.u32_at(self.place) == Some(1) {
                self.number()?;
            } else {
                self.funclet()?;
            }
            self.code()?;
        }
        Ok(())
    }

    /// `GS_HANDLER_DATA`: cookie offset with flags in its low three bits, alignment where the third is set.
    fn stack_cookie(&mut self) -> Read<()> {
        const HAS_ALIGNMENT: u32 = 4;
        let cookie = self.word()?;
        self.items.push(Item::Number(i64::from(cookie)));
        if cookie & HAS_ALIGNMENT != 0 {
            self.number()?;
            self.number()?;
        }
        Ok(())
    }

    /// The RVA of a `FuncInfo` of version 3 and earlier.
    fn function_info3(&mut self) -> Read<()> {
        self.table(|r| {
            let magic = r.word()?;
            r.items.push(Item::Number(i64::from(magic)));
            if !(0x1993_0520..=0x1993_0522).contains(&(magic & 0x1fff_ffff)) {
                return Err(Failure::Malformed("not a FuncInfo"));
            }
            let states = r.word()?;
            let states = r.count(states)?;
            r.table(|r| {
                for _ in 0..states {
                    r.number()?;
                    r.funclet()?;
                }
                Ok(())
            })?;
            let tries = r.word()?;
            let tries = r.count(tries)?;
            r.table(|r| (0..tries).try_for_each(|_| r.try_block3()))?;
            let ips = r.word()?;
            let ips = r.count(ips)?;
            r.table(|r| {
                for _ in 0..ips {
                    r.code()?;
                    r.number()?;
                }
                Ok(())
            })?;
            // Offset of the unwind helper, exception specifications, flags.
            r.number()?;
            r.data()?;
            r.number()
        })
    }

    fn try_block3(&mut self) -> Read<()> {
        (0..3).try_for_each(|_| self.number())?;
        let catches = self.word()?;
        let catches = self.count(catches)?;
        self.table(|r| {
            for _ in 0..catches {
                r.number()?;
                r.data()?;
                r.number()?;
                r.funclet()?;
                r.number()?;
            }
            Ok(())
        })
    }

    /// The RVA of a compressed `FuncInfo4`.
    fn function_info4(&mut self) -> Read<()> {
        const IS_CATCH: u8 = 1;
        const IS_SEPARATED: u8 = 1 << 1;
        const HAS_BLOCKS: u8 = 1 << 2;
        const HAS_UNWIND_MAP: u8 = 1 << 3;
        const HAS_TRY_MAP: u8 = 1 << 4;
        self.table(|r| {
            let header = r.byte()?;
            r.items.push(Item::Number(i64::from(header)));
            if header & HAS_BLOCKS != 0 {
                r.compressed_number()?;
            }
            if header & HAS_UNWIND_MAP != 0 {
                r.table(Self::unwind_map4)?;
            }
            if header & HAS_TRY_MAP != 0 {
                r.table(Self::try_map4)?;
            }
            if header & IS_SEPARATED != 0 {
                r.table(Self::separated_ip_map4)?;
            } else {
                let function = r.function;
                r.table(|r| r.ip_map4(function))?;
            }
            if header & IS_CATCH != 0 {
                r.compressed_number()?;
            }
            Ok(())
        })
    }

    fn unwind_map4(&mut self) -> Read<()> {
        let count = self.compressed()?;
        for _ in 0..self.count(count)? {
            let next = self.compressed()?;
            self.items.push(Item::Number(i64::from(next)));
            // Nothing, a destructor with its object, with a pointer to it, or a funclet.
            match next & 3 {
                0 => {}
                3 => self.funclet()?,
                _ => {
                    self.code()?;
                    self.compressed_number()?;
                }
            }
        }
        Ok(())
    }

    fn try_map4(&mut self) -> Read<()> {
        let count = self.compressed()?;
        for _ in 0..self.count(count)? {
            (0..3).try_for_each(|_| self.compressed_number())?;
            self.table(Self::handler_map4)?;
        }
        Ok(())
    }

    fn handler_map4(&mut self) -> Read<()> {
        const ADJECTIVES: u8 = 1;
        const TYPE: u8 = 1 << 1;
        const OBJECT: u8 = 1 << 2;
        const CONTINUATION_IS_RVA: u8 = 1 << 3;
        let count = self.compressed()?;
        for _ in 0..self.count(count)? {
            let header = self.byte()?;
            self.items.push(Item::Number(i64::from(header)));
            if header & ADJECTIVES != 0 {
                self.compressed_number()?;
            }
            if header & TYPE != 0 {
                self.data()?;
            }
            if header & OBJECT != 0 {
                self.compressed_number()?;
            }
            self.funclet()?;
            for _ in 0..(header >> 4) & 3 {
                if header & CONTINUATION_IS_RVA != 0 {
                    self.code()?;
                } else {
                    let offset = self.compressed()?;
                    let place = self.function.checked_add(offset).ok_or(CUT_OFF)?;
                    self.items.push(Item::Code(place));
                }
            }
        }
        Ok(())
    }

    fn ip_map4(&mut self, start: Rva) -> Read<()> {
        let count = self.compressed()?;
        let mut place = start;
        for _ in 0..self.count(count)? {
            let distance = self.compressed()?;
            place = place.checked_add(distance).ok_or(CUT_OFF)?;
            self.items.push(Item::Code(place));
            self.compressed_number()?;
        }
        Ok(())
    }

    fn separated_ip_map4(&mut self) -> Read<()> {
        let count = self.compressed()?;
        for _ in 0..self.count(count)? {
            let start = self.image.u32_at(self.place).map(Rva).ok_or(CUT_OFF)?;
            self.code()?;
            self.table(|r| r.ip_map4(start))?;
        }
        Ok(())
    }
}
