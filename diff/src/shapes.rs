//! What the type of a member or a variable means for the bytes that lie there: its shape. Two builds that give one place another shape read
//! each other's bytes wrongly, though nothing moved.
//!
//! Left out of it: names of typedefs, `const`, signs, and which enumeration an integer is of.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::symbols::{Member, TypeLayout};

/// What lies where a value of a type lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// An integer, a character, a truth value, or an enumeration, of so many bytes; 0 for `void`.
    Integer(u64),
    /// A floating-point number.
    Float(u64),
    /// The address of something.
    Pointer(Arc<Shape>),
    /// Code.
    Function,
    /// Elements, of so many bytes in all.
    Array(u64, Arc<Shape>),
    /// A structure, class or union, by the key of its layouts.
    Type(Arc<str>),
    /// One without a name of its own: its members in words.
    Unnamed(Arc<str>),
    /// Nothing that the PDB tells more of than its size.
    Opaque,
}

impl Shape {
    /// Bytes of any meaning: what `void *` and `char *` lead to.
    fn is_bytes(&self) -> bool {
        matches!(self, Shape::Integer(0 | 1) | Shape::Opaque)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Integer(0) => f.write_str("nothing"),
            Shape::Integer(1) => f.write_str("a byte"),
            Shape::Integer(size) => write!(f, "an integer of {size} bytes"),
            Shape::Float(size) => write!(f, "a floating-point number of {size} bytes"),
            Shape::Pointer(to) => write!(f, "a pointer to {to}"),
            Shape::Function => f.write_str("code"),
            Shape::Array(size, element) => write!(f, "an array of {size} bytes, each element {element}"),
            Shape::Type(key) => f.write_str(key),
            Shape::Unnamed(_) => f.write_str("a type without a name"),
            Shape::Opaque => f.write_str("something unknown"),
        }
    }
}

/// The layouts of one build, by key.
pub type Layouts = HashMap<String, BTreeSet<TypeLayout>>;

/// Types that lead from one to the next before the comparison gives up.
const MAX_DEPTH: u32 = 64;

/// Definitions of one name that are compared with those of another name.
const MAX_DEFINITIONS: usize = 8;

/// Compares shapes of two builds. Types of one key are the same here: where their layouts differ, that is said of them.
pub struct Shapes<'a> {
    old: &'a Layouts,
    new: &'a Layouts,
    /// Keys of types that are being compared, or were found to be the same while those were.
    assumed: HashSet<(Arc<str>, Arc<str>)>,
    different: HashSet<(Arc<str>, Arc<str>)>,
    /// Keys by names in the source, of the old and the new build; made where two uses of a template are compared.
    keys: Option<[HashMap<&'a str, &'a str>; 2]>,
}

impl<'a> Shapes<'a> {
    /// For two builds' layouts.
    pub fn new(old: &'a Layouts, new: &'a Layouts) -> Shapes<'a> {
        Shapes { old, new, assumed: HashSet::new(), different: HashSet::new(), keys: None }
    }

    /// An old and a new shape in words, with types by their names in the source.
    pub fn describe(&self, old: &Shape, new: &Shape) -> (String, String) {
        (named(old, self.old).to_string(), named(new, self.new).to_string())
    }

    /// Whether bytes of the old shape may be taken for the new one.
    pub fn is_same(&mut self, old: &Shape, new: &Shape) -> bool {
        // What was assumed is proven only by the whole.
        self.assumed.clear();
        self.walk(old, new, MAX_DEPTH)
    }

    fn walk(&mut self, old: &Shape, new: &Shape, depth: u32) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        match (old, new) {
            // Sizes are compared by whoever has them.
            (Shape::Opaque, _) | (_, Shape::Opaque) | (Shape::Function, Shape::Function) => true,
            (Shape::Integer(a), Shape::Integer(b)) | (Shape::Float(a), Shape::Float(b)) => a == b,
            (Shape::Pointer(a), Shape::Pointer(b)) => a.is_bytes() || b.is_bytes() || self.walk(a, b, depth),
            (Shape::Array(size, a), Shape::Array(other, b)) => size == other && self.walk(a, b, depth),
            (Shape::Type(a), Shape::Type(b)) => self.types(a, b, depth),
            (Shape::Unnamed(a), Shape::Unnamed(b)) => a == b,
            // An atomic number lies in memory as the number does.
            (Shape::Type(key), plain) => {
                only_member(self.old, key).is_some_and(|inner| self.walk(&inner, plain, depth))
            }
            (plain, Shape::Type(key)) => {
                only_member(self.new, key).is_some_and(|inner| self.walk(plain, &inner, depth))
            }
            _ => false,
        }
    }

    fn types(&mut self, old: &Arc<str>, new: &Arc<str>, depth: u32) -> bool {
        let pair = (old.clone(), new.clone());
        if old == new || self.assumed.contains(&pair) {
            return true;
        }
        if self.different.contains(&pair) {
            return false;
        }
        let (olds, news) = (self.old.get(&**old), self.new.get(&**new));
        let (Some(olds), Some(news)) = (olds, news) else { return false };
        self.assumed.insert(pair.clone());
        let pairs =
            olds.iter().take(MAX_DEFINITIONS).flat_map(|a| news.iter().take(MAX_DEFINITIONS).map(move |b| (a, b)));
        let is_same = pairs.into_iter().any(|(a, b)| self.layouts(a, b, depth));
        if !is_same {
            self.assumed.remove(&pair);
            self.different.insert(pair);
        }
        is_same
    }

    fn layouts(&mut self, old: &TypeLayout, new: &TypeLayout, depth: u32) -> bool {
        let is_base = |member: &Member| member.name.starts_with("base ");
        (old.size, old.is_enumeration, old.members.len()) == (new.size, new.is_enumeration, new.members.len())
            && self.arguments(&old.name, &new.name, depth)
            && old.members.iter().zip(&new.members).all(|(a, b)| {
                (a.offset, a.size, a.bits) == (b.offset, b.size, b.bits)
                    && (a.name == b.name || is_base(a) && is_base(b))
                    && self.walk(&a.shape, &b.shape, depth)
            })
    }

    /// Two uses of one template say by their arguments what no member shows: an order, a capacity, what type-erased memory holds.
    fn arguments(&mut self, old: &str, new: &str, depth: u32) -> bool {
        let (Some((name, olds)), Some((other, news))) = (template(old), template(new)) else { return true };
        name != other
            || olds.len() == news.len() && olds.iter().zip(&news).all(|(a, b)| a == b || self.argument(a, b, depth))
    }

    fn argument(&mut self, old: &str, new: &str, depth: u32) -> bool {
        if let (Some(a), Some(b)) = (primitive(old), primitive(new)) {
            return a == b;
        }
        let [olds, news] = self.keys.get_or_insert_with(|| [keys(self.old), keys(self.new)]);
        let (Some(a), Some(b)) = (olds.get(old).copied(), news.get(new).copied()) else { return false };
        // What has no members means what its name says.
        let is_empty = |layouts: &Layouts, key: &str| {
            layouts.get(key).is_none_or(|all| all.iter().any(|layout| layout.members.is_empty()))
        };
        !is_empty(self.old, a) && !is_empty(self.new, b) && self.types(&a.into(), &b.into(), depth)
    }
}

/// The shape with the source's name of the type in place of its key.
fn named(shape: &Shape, layouts: &Layouts) -> Shape {
    match shape {
        Shape::Pointer(to) => Shape::Pointer(Arc::new(named(to, layouts))),
        Shape::Array(size, element) => Shape::Array(*size, Arc::new(named(element, layouts))),
        Shape::Type(key) => match layouts.get(&**key).and_then(BTreeSet::first) {
            Some(layout) => Shape::Type(layout.name.as_str().into()),
            None => Shape::Type(crate::demangle::demangle(key).into()),
        },
        shape => shape.clone(),
    }
}

fn keys(layouts: &Layouts) -> HashMap<&str, &str> {
    let mut keys = HashMap::with_capacity(layouts.len());
    for (key, all) in layouts {
        for layout in all {
            // Of several types of one name, the same in both builds.
            let known = keys.entry(layout.name.as_str()).or_insert(key.as_str());
            *known = (*known).min(key);
        }
    }
    keys
}

/// What a type consists of that has one member or base alone, which is as large as the whole.
fn only_member(layouts: &Layouts, key: &str) -> Option<Shape> {
    let all = layouts.get(key).filter(|all| all.len() == 1)?;
    let layout = all.first()?;
    match layout.members.as_slice() {
        [only] if only.offset == 0 && only.bits.is_none() && only.size.map(u64::from) == Some(layout.size) => {
            Some(only.shape.clone())
        }
        _ => None,
    }
}

/// A template's name and its arguments.
fn template(name: &str) -> Option<(&str, Vec<&str>)> {
    let (name, arguments) = name.strip_suffix('>')?.split_once('<')?;
    let (mut depth, mut start, mut found) = (0_i32, 0, Vec::new());
    for (at, c) in arguments.char_indices() {
        match c {
            '<' | '(' | '[' => depth = depth.saturating_add(1),
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(arguments.get(start..at)?.trim());
                start = at.checked_add(1)?;
            }
            _ => {}
        }
    }
    found.push(arguments.get(start..)?.trim());
    Some((name, found))
}

/// Names of C++ and of Rust; on Windows, `long` has four bytes.
fn primitive(name: &str) -> Option<Shape> {
    Some(match name {
        "bool" | "char" | "signed char" | "unsigned char" | "i8" | "u8" => Shape::Integer(1),
        "short" | "unsigned short" | "wchar_t" | "char16_t" | "i16" | "u16" => Shape::Integer(2),
        "int" | "unsigned" | "unsigned int" | "long" | "unsigned long" | "i32" | "u32" => Shape::Integer(4),
        "__int64" | "unsigned __int64" | "long long" | "unsigned long long" | "int64_t" | "uint64_t" | "i64"
        | "u64" | "isize" | "usize" => Shape::Integer(8),
        "float" | "f32" => Shape::Float(4),
        "double" | "f64" => Shape::Float(8),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "shapes_tests.rs"]
mod tests;
