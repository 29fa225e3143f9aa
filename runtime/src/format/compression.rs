//! How a body is stored (section 1.1): every bit is predicted from what stands before it, and an arithmetic coder writes the
//! surprise. Payloads have a few hundred bytes, of which a general format would spend a good part on tables; here both
//! sides begin with the same short sample of what bodies look like, and learn from there. All arithmetic is of integers.

use alloc::vec::Vec;
use core::iter;

/// What the model reads before the first byte of a body.
const PRIMER: &[u8] = include_bytes!("primer.bin");
/// Numbers of preceding bytes that a bit is predicted from.
const ORDERS: [usize; 4] = [0, 1, 2, 3];
/// One for each order, one for the longest repetition.
const INPUTS: usize = ORDERS.len() + 1;
/// Counters of an order: a power of two.
const COUNTERS: usize = 1 << COUNTER_BITS;
const COUNTER_BITS: u32 = 16;
/// A counter's probability has so many bits.
const PRECISION: u32 = 22;
/// Observations behind which a counter forgets.
const LIMIT: u32 = 50;
/// A repetition is looked for by so many bytes.
const REPEATED: usize = 3;
/// Runs longer than this are trusted alike.
const LONGEST: usize = 15;
/// A run that is longer than this is not given up for another one.
const LONG: usize = 24;
/// Weights have sixteen bits behind the point.
const FIRST_WEIGHT: i32 = 18_000;
/// How fast weights move.
const RATE: i32 = 14;

/// The stored form of a body.
pub fn compress(body: &[u8]) -> Vec<u8> {
    let mut model = Model::new();
    let mut coder = Interval::default();
    let mut stored = Vec::new();
    for byte in body {
        model.byte(|probability, place| {
            let bit = byte >> place & 1 != 0;
            coder.narrow(bit, probability);
            stored.extend(iter::from_fn(|| coder.settled()));
            bit
        });
    }
    stored.extend(coder.ending());
    stored
}

/// The body of `size` bytes whose stored form this is; none if it is that of no such body. Memory grows with what was read.
pub(super) fn decompress(stored: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut model = Model::new();
    let mut coder = Interval::default();
    // Behind the end, zeros.
    let at = |index: usize| stored.get(index).copied().unwrap_or(0);
    let mut settled = 0;
    let mut ahead = (0..4).fold(0, |value, index| value << 8 | u32::from(at(index)));
    for _ in 0..size {
        model.byte(|probability, _| {
            let bit = ahead <= coder.split(probability);
            coder.narrow(bit, probability);
            while coder.settled().is_some() {
                ahead = ahead << 8 | u32::from(at(settled + 4));
                settled += 1;
            }
            bit
        });
        if settled > stored.len() {
            return None;
        }
    }
    let ends_so = stored.get(settled..).is_some_and(|rest| rest.iter().copied().eq(coder.ending()));
    ends_so.then(|| model.seen.split_off(PRIMER.len()))
}

/// What is left of the numbers of 32 bits that the stored bytes can go on with.
struct Interval {
    low: u32,
    high: u32,
}

impl Default for Interval {
    fn default() -> Self {
        Interval { low: 0, high: u32::MAX }
    }
}

impl Interval {
    /// The last number that stands for a set bit of this probability, in 1/65536.
    fn split(&self, probability: u32) -> u32 {
        let width = u64::from(self.high - self.low);
        self.low + ((width * u64::from(probability)) >> 16) as u32
    }

    fn narrow(&mut self, bit: bool, probability: u32) {
        let split = self.split(probability);
        if bit {
            self.high = split;
        } else {
            self.low = split + 1;
        }
    }

    /// Takes out the first byte if all numbers have the same.
    fn settled(&mut self) -> Option<u8> {
        let (low, high) = (self.low.to_be_bytes(), self.high.to_be_bytes());
        (low[0] == high[0]).then(|| {
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
            low[0]
        })
    }

    /// The fewest bytes that, with zeros behind them, are one of the numbers; of these the lowest.
    fn ending(&self) -> impl Iterator<Item = u8> {
        let rounded = |bytes: usize| {
            let step = 1u64 << (32 - 8 * bytes);
            (u64::from(self.low).next_multiple_of(step), bytes)
        };
        let found = (0..=4).map(rounded).find(|(value, _)| *value <= u64::from(self.high));
        let (value, bytes) = found.unwrap_or((0, 0));
        (value as u32).to_be_bytes().into_iter().take(bytes)
    }
}

/// How often a bit was set in some context: a probability above, a number of observations below. All zeros is none.
#[derive(Clone, Copy, Default)]
struct Counter(u32);

impl Counter {
    const UNKNOWN: u32 = 1 << (PRECISION - 1);

    fn observations(self) -> u32 {
        self.0 & 0x3ff
    }

    fn probability(self) -> u32 {
        self.0 >> (32 - PRECISION) ^ Counter::UNKNOWN
    }

    fn learn(&mut self, bit: bool) {
        let (seen, probability) = (self.observations() as i32, self.probability() as i32);
        let aim = if bit { (1 << PRECISION) - 1 } else { 0 };
        let probability = (probability + (aim - probability) * 2 / (2 * seen + 3)) as u32;
        self.0 = (probability ^ Counter::UNKNOWN) << (32 - PRECISION) | (seen as u32 + 1).min(LIMIT);
    }
}

/// Predicts the bits of one byte after the other.
struct Model {
    counters: Vec<Counter>,
    /// By their length: whether runs go on.
    repetitions: [Counter; LONGEST + 1],
    weights: [[i32; INPUTS]; 2],
    /// The primer, then the body.
    seen: Vec<u8>,
    /// By the hash of some bytes, where these last ended.
    ends: Vec<u32>,
    /// Where the byte stands that may come next, 0 if there is none, and how many before it were as expected.
    expected: usize,
    repeated: usize,
    stretched: Vec<i16>,
}

impl Model {
    fn new() -> Model {
        let mut model = Model {
            counters: alloc::vec![Counter::default(); ORDERS.len() * COUNTERS],
            repetitions: [Counter::default(); LONGEST + 1],
            weights: [[FIRST_WEIGHT; INPUTS]; 2],
            seen: Vec::new(),
            ends: alloc::vec![0; COUNTERS],
            expected: 0,
            repeated: 0,
            stretched: stretched(),
        };
        for byte in PRIMER {
            model.byte(|_, place| byte >> place & 1 != 0);
        }
        model
    }

    /// Has the bits of a byte coded, the highest first: `code` is given the probability of a set bit in 1/65536, and the bit's place.
    fn byte(&mut self, mut code: impl FnMut(u32, u32) -> bool) {
        let contexts = ORDERS.map(|order| self.context(order));
        let mut byte = 1;
        for place in (0..8).rev() {
            let bit = self.bit(&contexts, byte, place, |probability| code(probability, place));
            byte = byte << 1 | u32::from(bit);
        }
        self.see(byte as u8);
    }

    /// A hash of the last bytes, and of how many they are.
    fn context(&self, order: usize) -> u32 {
        let last = self.seen.iter().rev().take(order);
        last.fold(order as u32 + 1, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193).rotate_left(7))
    }

    fn bit(&mut self, contexts: &[u32; ORDERS.len()], byte: u32, place: u32, code: impl FnOnce(u32) -> bool) -> bool {
        let mut slots = [0; ORDERS.len()];
        let mut inputs = [0; INPUTS];
        for (order, ((slot, input), context)) in slots.iter_mut().zip(&mut inputs).zip(contexts).enumerate() {
            let hash = (context ^ byte.wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca6b);
            *slot = order * COUNTERS + (hash >> (32 - COUNTER_BITS)) as usize;
            *input = self.counters.get(*slot).map_or(0, |counter| self.input(*counter));
        }
        // The byte behind the earlier run, as long as its first bits are as expected.
        let expected = self.seen.get(self.expected).filter(|_| self.expected > 0);
        let expected = expected.filter(|expected| (u32::from(**expected) | 0x100) >> (place + 1) == byte);
        let expected = expected.map(|expected| expected >> place & 1 != 0);
        let length = self.repeated.min(LONGEST);
        if let (Some(expected), Some(input)) = (expected, inputs.last_mut()) {
            let likely = self.input(self.repetitions[length]);
            *input = if expected { likely } else { -likely };
        }
        let weights = &mut self.weights[usize::from(expected.is_some())];
        let sum: i64 = inputs.iter().zip(&*weights).map(|(input, weight)| i64::from(*input) * i64::from(*weight)).sum();
        let probability = squashed((sum >> 16) as i32);
        let bit = code(probability);
        let error = ((i32::from(bit) << 16) - probability as i32) * RATE;
        for (weight, input) in weights.iter_mut().zip(inputs) {
            *weight = weight.saturating_add((input * (error >> 4) + 0x8000) >> 16);
        }
        for slot in slots {
            if let Some(counter) = self.counters.get_mut(slot) {
                counter.learn(bit);
            }
        }
        if let Some(expected) = expected {
            self.repetitions[length].learn(expected == bit);
        }
        bit
    }

    /// What a counter says, as a logarithm of odds.
    fn input(&self, counter: Counter) -> i32 {
        let index = (counter.probability() >> (PRECISION - 12)) as usize;
        if counter.observations() == 0 { 0 } else { self.stretched.get(index).copied().map_or(0, i32::from) }
    }

    /// Looks for what may come next: behind the place where the last bytes stood before. A place stays the one to look at when a byte is
    /// another than there, as in code of which a field changed, until there is one with a longer run.
    fn see(&mut self, byte: u8) {
        if self.expected > 0 {
            let as_expected = self.seen.get(self.expected) == Some(&byte);
            self.repeated = if as_expected { self.repeated + 1 } else { 0 };
            self.expected += 1;
        }
        self.seen.push(byte);
        if self.seen.len() < REPEATED {
            return;
        }
        let slot = (self.context(REPEATED).wrapping_mul(0x9e37_79b1) >> (32 - COUNTER_BITS)) as usize;
        let place = self.ends.get(slot).map_or(0, |end| *end as usize);
        if place > 0 && place != self.expected && self.repeated < LONG {
            let run = self.run(place);
            if run > self.run(self.expected) {
                (self.expected, self.repeated) = (place, run);
            }
        }
        if let Some(end) = self.ends.get_mut(slot) {
            *end = self.seen.len() as u32;
        }
    }

    /// How many bytes before a place are those that were seen last.
    fn run(&self, place: usize) -> usize {
        let before = self.seen.get(..place).unwrap_or_default();
        before.iter().rev().zip(self.seen.iter().rev()).take(LONG).take_while(|(earlier, last)| earlier == last).count()
    }
}

/// The probability in 1/65536 of these odds, of which 256 are a factor of e.
fn squashed(odds: i32) -> u32 {
    const STEPS: [i32; 33] = [
        22, 36, 60, 98, 162, 267, 439, 721, 1179, 1917, 3108, 4971, 7813, 11980, 17625, 24743, 32768, 40793, 47911,
        53556, 57723, 60565, 62428, 63619, 64357, 64815, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
    ];
    let odds = odds.clamp(-2047, 2047) + 2048;
    let (step, rest) = ((odds >> 7) as usize, odds & 127);
    let at = |index: usize| STEPS.get(index).copied().unwrap_or(0);
    ((at(step) * (128 - rest) + at(step + 1) * rest) >> 7) as u32
}

/// The odds of each probability in 1/4096: the other way round.
fn stretched() -> Vec<i16> {
    let mut odds = Vec::new();
    for value in -2047..=2047i16 {
        odds.resize((squashed(i32::from(value)) as usize >> 4) + 1, value);
    }
    odds.resize(4096, 2047);
    odds
}
