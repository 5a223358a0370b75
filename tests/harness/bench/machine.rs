//! What the numbers depend on.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn describe(folder: &Path) {
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    println!("CPU          {model}, {cpus} in use");
    println!("Kernel       {}", read("/proc/sys/kernel/osrelease").trim());
    println!("File system  {}", file_system(folder));
    println!("Huge pages   {}", read("/sys/kernel/mm/transparent_hugepage/enabled").trim());
    println!("Load         {}", read("/proc/loadavg").trim());
}

fn read(file: &str) -> String {
    read_to_string(file).unwrap_or_else(|_| "unknown".into())
}

pub fn file_system(folder: &Path) -> String {
    let output = Command::new("df").arg("--output=fstype").arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or("unknown").into()
}

/// Where libpam looks for modules: beside itself.
pub fn pam_modules() -> PathBuf {
    let maps = read("/proc/self/maps");
    let libpam = maps.lines().filter_map(|line| line.split_whitespace().last()).map(Path::new);
    let libpam = libpam.into_iter().find(|path| name(path).starts_with("libpam.so")).unwrap();
    libpam.with_file_name("security")
}

pub fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
