use hpgen_diff::{atoms::AtomKind, program::Program};
use std::collections::BTreeMap;
fn main() {
    let t = std::time::Instant::now();
    let p = Program::load(std::env::args().nth(1).unwrap().as_ref(), None).unwrap();
    println!("loaded in {:?}: {} atoms, {} functions", t.elapsed(), p.atoms.len(), p.functions.len());
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for f in &p.functions {
        let a = p.atom(f.atom).unwrap();
        for u in &f.code.unresolved {
            reasons.entry(u.reason.clone()).or_default().push(format!("{}+{:#x}", p.display(a), u.offset));
        }
    }
    for (r, l) in reasons {
        println!("{} x {r}: {:?}", l.len(), &l[..l.len().min(6)]);
    }
    let anon: Vec<_> = p
        .functions
        .iter()
        .filter_map(|f| p.atom(f.atom))
        .filter(|a| a.names.is_empty())
        .map(|a| format!("{}:{}:{:?}", p.display(a), a.size, p.module_name(a)))
        .collect();
    println!("anonymous functions {}: {:?}", anon.len(), &anon[..anon.len().min(40)]);
    println!(
        "tables {}; functions with register jumps but no table: {:?}",
        p.functions.iter().map(|f| f.tables.len()).sum::<usize>(),
        p.functions
            .iter()
            .filter(|f| f.tables.is_empty() && !f.code.register_jumps.is_empty())
            .map(|f| p.display(p.atom(f.atom).unwrap()))
            .take(50)
            .collect::<Vec<_>>()
    );
    for k in [AtomKind::ReadOnly, AtomKind::Writable, AtomKind::ImportSlot] {
        println!(
            "{k:?}: {} of which anonymous {}",
            p.atoms.iter().filter(|a| a.kind == k).count(),
            p.atoms.iter().filter(|a| a.kind == k && a.names.is_empty()).count()
        );
    }
    if std::env::args().nth(2).is_some() {
        for a in &p.atoms {
            println!("{} +{:#x} {:?} {} {:?}", a.rva, a.size, a.kind, p.display(a), p.module_name(a));
        }
    }
}
