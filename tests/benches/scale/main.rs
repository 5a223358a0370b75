//! What thousands of users cost. `cargo bench -p backupcodes-tests --bench scale`; docs/performance.md says how to read
//! it. `--users=200` makes sets for fewer, for a look while something is changed; `--plot` draws docs/scale.svg again.

mod generate;
mod plot;
mod side_by_side;
mod status;

use backupcodes_tests::bench::fresh::{Sample, Work, measure};
use backupcodes_tests::bench::stack::Folder;
use backupcodes_tests::bench::{machine, median, option, release};
use backupcodes_tests::machine::Machine;

fn main() {
    backupcodes_tests::bench::main(report);
}

fn report() {
    // It says what is missing.
    let Some(host) = Machine::new() else { return };
    let folder = Folder::new(&release());
    machine::describe(folder.path());
    println!("Medians; contestants take turns, and each sample is a fresh process.");
    let users = option("--users").map_or(2000, |count| count.parse().expect("--users=NUMBER"));
    let accounts: Vec<_> = host.accounts(users).into_iter().map(|account| account.name).collect();
    let peak_of_a_run = generate::against_the_machine(&folder, &accounts);
    let memory = generate::memory(&folder, &accounts, peak_of_a_run);
    let stores = status::Store::all(&folder);
    let times = status::time_and_memory(&stores);
    status::logins(&stores);
    drop(stores);
    side_by_side::report(&folder);
    if option("--plot").is_some() {
        plot::draw(&times, &memory);
    }
}

/// `backupcodes-admin` with these arguments.
fn admin(arguments: &[&str]) -> Sample {
    let program = release().join("backupcodes-admin").to_str().unwrap().to_owned();
    let arguments = arguments.iter().copied().map(String::from);
    measure(&Work::Program(std::iter::once(program).chain(arguments).collect()))
}

fn nanoseconds(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.nanoseconds).collect()
}

fn peak_mib(samples: &[Sample]) -> f64 {
    median(&samples.iter().map(|sample| sample.peak_kib / 1024.0).collect::<Vec<_>>())
}
