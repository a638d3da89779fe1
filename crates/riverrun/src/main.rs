//! The `riverrun` command.

use std::process::ExitCode;

/// Arrow's buffers come and go by the thousand, from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    riverrun::cli::main()
}
