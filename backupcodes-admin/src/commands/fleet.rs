//! `fleet`: what an administrator does with the sets that hosts share.

use std::path::Path;
use std::process::Command;

use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::protocol::fleet::StatusReply;
use backupcodes_core::set::CodeSet;
use backupcodes_core::store::{
    Expected, FleetError, FleetStore, Prepared, ReplaceError, Sets, Store, StoreError,
};

use crate::cli::{Certificate, Fleet, FleetHost, Style};
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::{output, terminal};

/// Whose set on the host is for emergencies.
const ROOT: &str = "root";
/// The program that has network code, of a package of its own.
const PROGRAM: &str = "/usr/sbin/backupcodes-fleet";

pub(crate) fn run(config: &Config, conf: Option<&Path>, command: &Fleet) -> Result<Outcome, Failure> {
    match command {
        Fleet::Init(root) => set_up(conf, root, &["init"]),
        Fleet::Host(FleetHost::Add { name, root }) => set_up(conf, root, &["add-host", name]),
        Fleet::Host(FleetHost::Remove { name, root }) => set_up(conf, root, &["remove-host", name]),
        Fleet::Host(FleetHost::List { root }) => set_up(conf, root, &["list-hosts"]),
        Fleet::Import { users, all } => import(config, users, *all),
        Fleet::Status { format } => status(&shared(config)?, format.style),
        Fleet::Restored { yes } => restored(&shared(config)?, *yes),
    }
}

fn shared(config: &Config) -> Result<FleetStore, Failure> {
    Sets::new(config).into_fleet().ok_or(Failure::NoFleet)
}

/// With the certificate of etcd's root, which no host has.
fn set_up(
    conf: Option<&Path>,
    Certificate { certificate, key }: &Certificate,
    what: &[&str],
) -> Result<Outcome, Failure> {
    let mut program = Command::new(PROGRAM);
    conf.map(|conf| program.arg("--config").arg(conf));
    program.arg("--certificate").arg(certificate).arg("--key").arg(key);
    // A name that begins with a dash is no option.
    program.args(what.iter().take(1)).arg("--").args(what.iter().skip(1));
    // It says itself what is wrong.
    let status = program.status().map_err(Failure::FleetProgram)?;
    if status.success() { Ok(Outcome::Done) } else { Err(Failure::FleetSetUp(status)) }
}

fn import(config: &Config, users: &[String], all: bool) -> Result<Outcome, Failure> {
    let sets = Sets::new(config);
    let Some(fleet) = sets.fleet() else { return Err(Failure::NoFleet) };
    fleet.prove_may_replace()?;
    let mut users = if all { sets.files().users()? } else { users.to_vec() };
    if all && users.iter().any(|user| user == ROOT) {
        // It is what works when the fleet cannot be reached.
        users.retain(|user| user != ROOT);
        output::print(
            "root: the set stays on this host; to give it to the fleet: backupcodes-admin fleet import root\n",
        )?;
    }
    let mut failed = Vec::new();
    for user in &users {
        match import_one(config, &sets, fleet, user) {
            Ok(set) => output::print(&format!("{user}: set {set} is the fleet's now\n"))?,
            Err(failure) => failed.push(failure),
        }
    }
    output::report(failed, users.len()).map(|()| Outcome::Done)
}

/// No code works on this host and in the fleet at the same time.
fn import_one(config: &Config, sets: &Sets, fleet: &FleetStore, user: &str) -> Result<String, Failure> {
    let put = |own: &CodeSet, was_cut_short| match fleet.read(user)? {
        // The end of an import is missing.
        Some(shared) if was_cut_short && shared.label.set == own.label.set => Ok(()),
        Some(shared) if shared.label.set == own.label.set => {
            Err(ReplaceError::Copy { user: user.into(), set: shared.label.set })
        }
        Some(shared) => Err(ReplaceError::InFleet {
            user: user.into(),
            set: own.label.set.clone(),
            shared: shared.label.set,
        }),
        None if was_cut_short => {
            Err(ReplaceError::CutShort { user: user.into(), set: own.label.set.clone() })
        }
        None => {
            let prepared = fleet.prepare(user, Expected::Nothing, Some(&own.text()))?;
            prepared.commit(|_| Vec::new()).map_err(|error| match error {
                // It may have been made, and ended since.
                ReplaceError::Changed { .. } => {
                    ReplaceError::Unknown(StoreError::Fleet(FleetError::Refused {
                        reason: "they were changed at the same moment".into(),
                        is_unknown: true,
                    }))
                }
                error => error,
            })
        }
    };
    let writer = Writer::of_this_host(config, &notice::host_name());
    let moved = sets.files().move_away(user, put, |last| writer.of_due_uses(last))?;
    moved.ok_or_else(|| Failure::NotOnHost(user.into()))
}

fn status(fleet: &FleetStore, format: Style) -> Result<Outcome, Failure> {
    let status = fleet.status()?;
    let is_whole = status.authenticates
        && status.refused.is_none()
        && status.nodes.iter().all(|node| node.error.is_none() && node.alarms.is_empty());
    match format {
        Style::Json => output::print_json(&status)?,
        Style::Text => {
            let StatusReply {
                cluster,
                revision,
                refused,
                may_replace,
                may_not_because,
                authenticates,
                nodes,
                ..
            } = &status;
            let may = match may_replace {
                Some(true) => "this host may replace sets",
                Some(false) => "this host may not replace sets",
                None => "it is unknown whether this host may replace sets",
            };
            let because = may_not_because.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            output::print(&format!("cluster {cluster}, revision {revision}; {may}{because}\n"))?;
            if !authenticates {
                output::print("  etcd does not tell its users apart: backupcodes-admin fleet init\n")?;
            }
            if let Some(reason) = refused {
                output::print(&format!("  no code can be used here: {reason}\n"))?;
            }
            for node in nodes {
                let what = node.error.clone().unwrap_or_else(|| {
                    let leads = if node.leads { ", leads" } else { "" };
                    let alarms: String = node.alarms.iter().map(|alarm| format!("; {alarm}")).collect();
                    format!("etcd {}{leads}, {} KiB{alarms}", node.version, node.size >> 10)
                });
                output::print(&format!("  {}: {what}\n", node.url))?;
            }
        }
    }
    Ok(if is_whole { Outcome::Done } else { Outcome::No })
}

fn restored(fleet: &FleetStore, yes: bool) -> Result<Outcome, Failure> {
    if !yes {
        if !terminal::is_there() {
            return Err(Failure::WouldEndAll);
        }
        let question = "All sets of the fleet end: codes that were spent after the backup would work again. Everybody needs a new \
                        sheet. End them?";
        if !terminal::agrees(question, &Interrupt::watch()?).map_err(Failure::Input)? {
            return Ok(Outcome::No);
        }
    }
    fleet.restored(clock::now().seconds())?;
    output::print("all sets are ended; to make new ones: backupcodes-admin generate --all\n")?;
    Ok(Outcome::Done)
}
