//! The hot paths, one after the other, each counted once it is warm.
//!
//! Called by `main` inside callgrind, which counts what happens in [`counted_by_callgrind`] and
//! writes a file each time that returns. A path that does not do its work panics: a budget for
//! nothing would hold for ever.

use std::hint::black_box;

mod api;
mod client;
mod door;
mod fanout;
mod redis;
mod ring;

/// Runs every path.
pub fn run() {
    client::run();
    door::run();
    api::run();
    fanout::run();
    redis::run();
    ring::run();
}

/// Does the work for each item. The last is counted, under this name; those before it grow what
/// grows. `times` is how many of what the path is named for the last one holds.
fn count<T>(name: &str, times: usize, items: impl IntoIterator<Item = T>, mut work: impl FnMut(T)) {
    let mut items: Vec<T> = items.into_iter().collect();
    let mut last = items.pop();
    for item in items {
        work(item);
    }
    counted_by_callgrind(&mut || last.take().map_or((), &mut work));
    println!("{name}\t{times}");
}

#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
    // Without anything behind it the call above would be a jump, and never return to here.
    black_box(());
}
