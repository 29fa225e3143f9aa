//! Trait objects and generic code over them.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;
use std::rc::Rc;

use crate::mix;

/// Something that is traded.
trait Good {
    fn name(&self) -> &'static str;
    fn price(&self, day: u64) -> u64;
    /// What a trade does to it.
    fn traded(&mut self) {}
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Quality {
    Poor,
    Fair(u8),
    Fine { years: u16 },
}

struct Wine {
    quality: Quality,
    trades: u64,
}

struct Bread;

struct Wrapped<T> {
    inner: T,
    factor: u64,
}

impl Good for Wine {
    fn name(&self) -> &'static str {
        match self.quality {
            Quality::Poor => "poor wine",
            Quality::Fair(1) => "hardly fair wine",
            Quality::Fair(_) => "fair wine",
            Quality::Fine { .. } => "fine wine",
        }
    }

    fn price(&self, day: u64) -> u64 {
        let base = match &self.quality {
            Quality::Poor => 2,
            Quality::Fair(points) => 3 + u64::from(*points),
            Quality::Fine { years } => 10 * u64::from(*years),
        };
        base + day % 3 + self.trades % 7
    }

    fn traded(&mut self) {
        self.trades += 1;
        self.quality = match self.trades % 17 {
            0 => Quality::Poor,
            n @ 1..8 => Quality::Fair(n as u8),
            n => Quality::Fine { years: n as u16 },
        };
    }
}

impl Good for Bread {
    fn name(&self) -> &'static str {
        "bread"
    }

    fn price(&self, day: u64) -> u64 {
        1 + day % 2
    }
}

impl<T: Good> Good for Wrapped<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn price(&self, day: u64) -> u64 {
        self.inner.price(day) * self.factor
    }
}

/// The best good of a day.
pub struct Best {
    name: &'static str,
    price: u64,
}

impl fmt::Debug for Best {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Best").field("name", &self.name).field("price", &self.price).finish()
    }
}

/// Goods and what happened to them.
pub struct Market {
    goods: Vec<Box<dyn Good>>,
    history: BTreeMap<u64, Rc<str>>,
    highest: BinaryHeap<u64>,
    by_name: HashMap<&'static str, u64>,
}

impl Market {
    /// A market with one good of each kind.
    pub fn new() -> Self {
        let goods: Vec<Box<dyn Good>> = vec![
            Box::new(Wine { quality: Quality::Fair(1), trades: 0 }),
            Box::new(Bread),
            Box::new(Wrapped { inner: Bread, factor: 3 }),
            Box::new(Wrapped { inner: Wine { quality: Quality::Fine { years: 3 }, trades: 5 }, factor: 2 }),
        ];
        Self { goods, history: BTreeMap::new(), highest: BinaryHeap::new(), by_name: HashMap::new() }
    }

    /// Trades the good of a day, and gives a checksum over all that was traded.
    pub fn trade(&mut self, day: u64) -> u64 {
        let which = day as usize % self.goods.len();
        let good = &mut self.goods[which];
        good.traded();
        let price = good.price(day);
        self.history.insert(day % 100, Rc::from(good.name()));
        self.highest.push(price);
        *self.by_name.entry(good.name()).or_default() += price;
        if self.highest.len() > 20 {
            self.highest.pop();
        }
        let sum = self.history.iter().fold(0, |sum, (day, name)| mix(sum, day + name.len() as u64));
        // Maps have no order: added up, not mixed.
        self.by_name.values().fold(sum, |sum, total| sum.wrapping_add(*total))
    }

    /// The good with the highest price today.
    pub fn best(&self) -> Option<Best> {
        let day = self.history.len() as u64;
        let best = self.goods.iter().max_by_key(|good| (good.price(day), good.name()))?;
        Some(Best { name: best.name(), price: best.price(day) })
    }
}
