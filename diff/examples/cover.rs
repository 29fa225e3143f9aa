//! scratch
use hpgen_diff::{program::Program, x64::Evidence};
fn main() {
    let p = Program::load(std::env::args().nth(1).unwrap().as_ref(), None).unwrap();
    let exact = p.functions.iter().filter(|f| f.code.evidence == Evidence::Objects).count();
    let refs = p.functions.iter().flat_map(|f| &f.code.references).count();
    let named = p.functions.iter().flat_map(|f| &f.code.references).filter(|r| r.symbol.is_some()).count();
    println!("functions {} from objects {exact}; references {refs}, with symbol {named}", p.functions.len());
    let un: Vec<_> = p.functions.iter().filter(|f| !f.code.unresolved.is_empty()).map(|f| (p.display(p.atom(f.atom).unwrap()), f.code.unresolved[0].clone())).take(10).collect();
    println!("{un:?}");
    let m: std::collections::BTreeMap<String, usize> = p.functions.iter().filter(|f| f.code.evidence != Evidence::Objects).fold(Default::default(), |mut m, f| { *m.entry(p.module_name(p.atom(f.atom).unwrap()).unwrap_or("?").to_owned()).or_default() += 1; m });
    println!("{:?}", m.into_iter().take(30).collect::<Vec<_>>());
}
