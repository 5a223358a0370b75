//! `backupcodes-admin`: generate, status, purge and the others, sheets and printing.

mod admin;
mod bulk;
mod deleted_accounts;
mod printing;
mod sheet;
mod status;
