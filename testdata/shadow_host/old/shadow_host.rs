//! The old build.
#[path = "../host.rs"]
mod host;

mod fix {
    #[inline(never)]
    pub fn use_lamp(lamp: &crate::host::Lamp) {
        println!("used {}", lamp.name);
    }
}

fn main() {
    host::main();
}
