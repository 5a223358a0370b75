//! Full, broken and wrongly protected disks: a code works once or is refused with the reason.

mod broken_disks;
mod faults;
mod full_disks;
mod tmpfiles;
mod trust;
