//! The linker's map: which section of which object came where. It says what is in an image, and ties the truth's names to addresses.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// What a map says.
#[derive(Debug, Default)]
pub struct LinkMap {
    /// Addresses of the symbols of each object; local ones may share a name.
    symbols: BTreeMap<(String, String), Vec<u32>>,
    /// Start and end of every section of an object.
    chunks: BTreeMap<u32, u32>,
}

impl LinkMap {
    /// Reads a file that lld wrote for `/lldmap`.
    pub fn read(path: &Path) -> Result<LinkMap> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// Reads the text of such a file. Columns: address, size, alignment, then a section, an object's section, or a symbol, each
    /// indented more than the one before.
    pub fn parse(text: &str) -> LinkMap {
        let mut map = LinkMap::default();
        let mut object = String::new();
        for line in text.lines() {
            let (Some(address), Some(size), Some(rest)) = (hex(line, 0), hex(line, 9), line.get(23..)) else {
                continue;
            };
            let name = rest.trim_start();
            match rest.len() - name.len() {
                indent if indent >= SYMBOL_INDENT => {
                    let places = map.symbols.entry((object.clone(), name.to_owned())).or_default();
                    if !places.contains(&address) {
                        places.push(address);
                    }
                }
                indent if indent >= CHUNK_INDENT => {
                    let path = name.rsplit_once(":(").map_or(name, |(path, _)| path);
                    object = path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
                    if size > 0 {
                        map.chunks.insert(address, address.saturating_add(size));
                    }
                }
                _ => {}
            }
        }
        map
    }

    /// Where symbols of this name of an object are; none if the linker left them out.
    pub fn addresses(&self, object: &str, symbol: &str) -> &[u32] {
        self.symbols.get(&(object.to_owned(), symbol.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// All symbols: object, name, first address.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        let first = |places: &Vec<u32>| places.first().copied();
        self.symbols
            .iter()
            .filter_map(move |((object, name), places)| Some((object.as_str(), name.as_str(), first(places)?)))
    }

    /// The start of the object's section that an address lies in.
    pub fn chunk_of(&self, address: u32) -> Option<u32> {
        let (start, end) = self.chunks.range(..=address).next_back()?;
        (address < *end).then_some(*start)
    }
}

/// Spaces before the name of an object's section.
const CHUNK_INDENT: usize = 7;
/// Spaces before a symbol.
const SYMBOL_INDENT: usize = 15;

fn hex(line: &str, column: usize) -> Option<u32> {
    u32::from_str_radix(line.get(column..column + 8)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
Address  Size     Align Out     In      Symbol
00001000 00006d10  4096 .text
00001530 00000000     4         m.o:(.text)
00001530 00000042    16         /some/where/m.o:(.text$main)
00001530 00000000     0                 main
00001530 00000000     0                 main
00001550 00000000     0                 $ehgcr_9_1
000015d0 0000001e    16         m.o:(.text$f)
000015d0 00000000     0                 f
";

    #[test]
    fn ties_symbols_and_sections_to_addresses() {
        let map = LinkMap::parse(MAP);
        assert_eq!(map.addresses("m.o", "main"), [0x1530]);
        assert_eq!(map.addresses("m.o", "f"), [0x15d0]);
        assert!(map.addresses("other.o", "f").is_empty());
        assert_eq!(map.chunk_of(0x1571), Some(0x1530));
        assert_eq!(map.chunk_of(0x1572), None);
    }
}
