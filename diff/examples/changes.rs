//! scratch
use hpgen_diff::{change_set::ChangeSet, compare::Comparison, program::Program};
fn main() {
    let mut a = std::env::args().skip(1);
    let (o, n) = (a.next().unwrap(), a.next().unwrap());
    let o = Program::load(o.as_ref(), None).unwrap();
    let n = Program::load(n.as_ref(), None).unwrap();
    let t = std::time::Instant::now();
    let c = Comparison::of(&o, &n);
    let s = ChangeSet::of(&o, &n, &c);
    println!("{:?} unchanged {}", t.elapsed(), s.unchanged);
    for f in &s.functions {
        println!("{:?} {} {:?}: {}", f.status, f.display, f.module, f.why);
    }
    for f in &s.data {
        println!("data {:?} {}: {}", f.status, f.name, f.why);
    }
    for f in &s.reasons {
        println!("reason {:?}", f);
    }
    println!("{:?}", s.verdict(&[]));
}
