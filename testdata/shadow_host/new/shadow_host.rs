//! The new build: counts the uses of each lamp.
#[path = "../host.rs"]
mod host;
#[path = "../../../shadow/src/lib.rs"]
#[allow(dead_code, unused_attributes)]
mod shadow;

mod fix {
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::shadow;

    const USES: u32 = 1;

    #[inline(never)]
    pub fn use_lamp(lamp: &crate::host::Lamp) {
        let uses = shadow::get_or_make::<AtomicU32>(lamp, USES);
        // SAFETY: lamps are not dropped, nor is what is attached to them before the patch is taken out.
        let uses = uses.map_or(0, |uses| unsafe { uses.as_ref() }.fetch_add(1, Ordering::Relaxed) + 1);
        println!("used {} {uses}", lamp.name);
    }

    #[unsafe(no_mangle)]
    #[used]
    static HPGEN_KEEP: extern "C" fn() -> i32 = hpgen_post_rollback;

    #[unsafe(no_mangle)]
    pub extern "C" fn hpgen_post_rollback() -> i32 {
        shadow::drop_all(USES);
        0
    }
}

fn main() {
    host::main();
}
