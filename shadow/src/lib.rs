//! New state for objects that a running process has already.
//!
//! A fix may need one more field in a structure of which the process holds live objects. Their layout cannot change under its
//! feet, but memory can be attached to each: keyed by the object's address and a number that the fix chooses. What
//! `hpgen_shadow.h` is for C and C++, this crate is for Rust, with the same rules:
//!
//! * memory is zeroed when it is attached, and stays where it is until it is dropped: by [`drop`] when the object dies, or for all
//!   objects by [`drop_all`]. Nothing is run when it goes;
//! * the table is a variable of the payload like any other new one: the next payload of the series takes it over with all that
//!   hangs on it. A rollback leaves it: call [`drop_all`] from a hook called `hpgen_post_rollback` to give the memory back;
//! * all functions may be called from any thread, and none of them calls back.
//!
//! Memory comes from the program's global allocator. The table is not that of C: what one attaches, the other does not find.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! const USES: u32 = 1;
//! let lamp = String::from("red");
//! // SAFETY: nobody drops this number of the lamp while the reference is in use.
//! let uses: &AtomicU32 = unsafe { hpgen_shadow::get_or_make::<AtomicU32>(&raw const lamp, USES).unwrap().as_ref() };
//! assert_eq!(uses.fetch_add(1, Ordering::Relaxed), 0);
//! hpgen_shadow::drop(&raw const lamp, USES);
//! ```
#![no_std]

extern crate alloc;

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, Ordering};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize};

/// A type of which all bytes may be zero.
///
/// # Safety
/// Zeroed memory must be a value of the type, and dropping that value must not be needed.
pub unsafe trait Zeroed: 'static {}

macro_rules! zeroed {
    ($($type:ty),* $(,)?) => {
        // SAFETY: numbers, false and null are zeros.
        $(unsafe impl Zeroed for $type {})*
    };
}

zeroed!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, bool);
zeroed!(AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, AtomicBool);
zeroed!(AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize);

// SAFETY: each element is zeros.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}
// SAFETY: null.
unsafe impl<T: 'static> Zeroed for AtomicPtr<T> {}

const BUCKETS: usize = 256;

/// What stands before the attached memory.
struct Entry {
    next: *mut Entry,
    object: usize,
    number: u32,
    /// Of the whole allocation.
    layout: Layout,
    /// Where the memory begins.
    memory: *mut u8,
}

/// The first entry of each bucket.
type Table = [*mut Entry; BUCKETS];

/// The one variable, which the next payload takes over by this name: the table, on the heap from when it is first needed.
struct Shadow {
    is_locked: AtomicBool,
    table: UnsafeCell<*mut Table>,
}

// SAFETY: the table is used by who holds the lock.
unsafe impl Sync for Shadow {}

/// A name that no compiler changes from one build to the next.
// SAFETY: nothing else in the program is called so.
#[unsafe(no_mangle)]
static HPGEN_SHADOW_OF_RUST: Shadow =
    Shadow { is_locked: AtomicBool::new(false), table: UnsafeCell::new(ptr::null_mut()) };

/// The lock, held.
struct Locked;

impl Locked {
    fn take() -> Locked {
        while HPGEN_SHADOW_OF_RUST.is_locked.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        Locked
    }

    /// The table; null before anything was attached.
    fn table(&self) -> *mut Table {
        // SAFETY: the lock is held.
        unsafe { *HPGEN_SHADOW_OF_RUST.table.get() }
    }

    /// As [`Locked::table`], made where there is none. None when memory is out.
    fn make_table(&self) -> Option<NonNull<Table>> {
        if let Some(table) = NonNull::new(self.table()) {
            return Some(table);
        }
        // SAFETY: the layout is not empty, and null pointers are zeros.
        let table = NonNull::new(unsafe { alloc_zeroed(Layout::new::<Table>()) }.cast::<Table>())?;
        // SAFETY: the lock is held.
        unsafe { *HPGEN_SHADOW_OF_RUST.table.get() = table.as_ptr() };
        Some(table)
    }

    /// The place of the pointer to the wanted entry, or of the null pointer where it would be.
    fn find(&self, table: NonNull<Table>, object: usize, number: u32) -> *mut *mut Entry {
        let key = object >> 4;
        let bucket = (key ^ key >> 8 ^ (number as usize).wrapping_mul(37)) % BUCKETS;
        // SAFETY: the bucket is one of the table's, and entries are whole as long as the lock is held.
        unsafe {
            let mut link = table.as_ptr().cast::<*mut Entry>().add(bucket);
            while !(*link).is_null() && ((**link).object != object || (**link).number != number) {
                link = &raw mut (**link).next;
            }
            link
        }
    }

    /// Takes an entry out of its list and gives its memory back.
    ///
    /// # Safety
    /// `link` must be the place of a pointer to an entry.
    unsafe fn unlink(&self, link: *mut *mut Entry) {
        // SAFETY: as the caller says; the entry was allocated with the layout that it holds.
        unsafe {
            let entry = *link;
            *link = (*entry).next;
            dealloc(entry.cast(), (*entry).layout);
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        HPGEN_SHADOW_OF_RUST.is_locked.store(false, Ordering::Release);
    }
}

/// The memory attached to an object under a number. None where nothing is, or something of another size.
pub fn get<T: Zeroed>(object: *const impl ?Sized, number: u32) -> Option<NonNull<T>> {
    let locked = Locked::take();
    let table = NonNull::new(locked.table())?;
    let link = locked.find(table, object.cast::<u8>() as usize, number);
    // SAFETY: the lock is held.
    unsafe { memory(*link) }
}

/// The same; where nothing is attached yet, a zeroed `T` is. None when memory is out, or what is attached is of another size.
pub fn get_or_make<T: Zeroed>(object: *const impl ?Sized, number: u32) -> Option<NonNull<T>> {
    let (layout, offset) = Layout::new::<Entry>().extend(Layout::new::<T>()).ok()?;
    let object = object.cast::<u8>() as usize;
    let locked = Locked::take();
    let table = locked.make_table()?;
    let link = locked.find(table, object, number);
    // SAFETY: the lock is held; the layout is not empty, and room for an entry with the memory behind it.
    unsafe {
        if (*link).is_null() {
            let entry = NonNull::new(alloc_zeroed(layout))?;
            let memory = entry.as_ptr().add(offset);
            entry.cast().write(Entry { next: ptr::null_mut(), object, number, layout, memory });
            *link = entry.as_ptr().cast();
        }
        memory(*link)
    }
}

/// Gives back what is attached to an object under a number.
pub fn drop(object: *const impl ?Sized, number: u32) {
    let locked = Locked::take();
    let Some(table) = NonNull::new(locked.table()) else { return };
    let link = locked.find(table, object.cast::<u8>() as usize, number);
    // SAFETY: the lock is held, and the link was found.
    unsafe {
        if !(*link).is_null() {
            locked.unlink(link);
        }
    }
}

/// Gives back what is attached under a number to any object.
pub fn drop_all(number: u32) {
    let locked = Locked::take();
    let Some(table) = NonNull::new(locked.table()) else { return };
    for bucket in 0..BUCKETS {
        // SAFETY: the bucket is one of the table's; the lock is held, so that all entries are whole.
        unsafe {
            let mut link = table.as_ptr().cast::<*mut Entry>().add(bucket);
            while !(*link).is_null() {
                if (**link).number == number {
                    locked.unlink(link);
                } else {
                    link = &raw mut (**link).next;
                }
            }
        }
    }
}

/// The memory of an entry, if it is a `T` in size and alignment.
///
/// # Safety
/// The entry must be null or whole.
unsafe fn memory<T>(entry: *mut Entry) -> Option<NonNull<T>> {
    // SAFETY: as the caller says.
    let entry = unsafe { entry.as_ref()? };
    let (wanted, offset) = Layout::new::<Entry>().extend(Layout::new::<T>()).ok()?;
    let fits = wanted == entry.layout && (entry as *const Entry as usize).checked_add(offset)? == entry.memory as usize;
    if fits { NonNull::new(entry.memory.cast()) } else { None }
}
