//! Hostile callers, names and process states: nothing leaks, and the application gets its state back.

mod callers;
mod equal_answers;
mod memory;
mod process_state;
mod secrets;
mod valgrind;
mod visible;
