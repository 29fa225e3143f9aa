//! scratch
use hpgen_diff::{compare::Comparison, program::Program};
fn main() {
    let mut a = std::env::args().skip(1);
    let (o, n, name) = (a.next().unwrap(), a.next().unwrap(), a.next().unwrap());
    let o = Program::load(o.as_ref(), None).unwrap();
    let n = Program::load(n.as_ref(), None).unwrap();
    let c = Comparison::of(&o, &n);
    for (x, y, out) in c.outcomes() {
        let at = o.atom(x).unwrap();
        if o.display(at).contains(&name) { println!("{} {:?} -> {} {:?}: {out:?}", o.display(at), at.rva, n.display(n.atom(y).unwrap()), n.atom(y).unwrap().rva);
        if let (Some(f), Some(g)) = (o.function(x), n.function(y)) { for (r, s) in f.code.references.iter().zip(&g.code.references) { println!("  {r:?} {:?} | {s:?} {:?}", o.locate(r.target), n.locate(s.target)); } println!("{:?} {:?}", f.code.facts.tables, f.code.facts.uses); println!("{:?}\n{:?}", f.tables, g.tables) } }
    }
}
