//! The module as libpam sees it: its return codes, its configuration, its file, and what it asks of the kernel.

mod configuration;
mod return_codes;
mod shared_object;
mod system_calls;
