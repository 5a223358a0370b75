//! Logins on hosts that share sets, through the real libpam.

use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN, Host};
use backupcodes_tests::{Sheet, World, level, me, pam, race, sheet, text};

/// A host of the fleet on which people log in.
pub struct LoginHost {
    pub host: Host,
    pub world: World,
}

impl LoginHost {
    pub fn new(cluster: &Cluster, name: &str, options: &str) -> Self {
        Self::of(Host::new(cluster, name), options)
    }

    pub fn of(host: Host, options: &str) -> Self {
        let world = World::new(options).expect("the cluster's sandbox");
        world.configure(&format!("{}{}", backupcodes_tests::CHEAP, host.settings()));
        Self { host, world }
    }

    /// A new set for the user who runs the tests.
    pub fn generate(&self) -> Sheet {
        self.world.generate()
    }
}

/// A cluster, an administrator's host and two others.
pub fn fleet() -> Option<(Cluster, [LoginHost; 3])> {
    let cluster = Cluster::new()?;
    fleet::set_up(&cluster, &["host1", "host2"]);
    let hosts = [ADMIN, "host1", "host2"].map(|name| LoginHost::new(&cluster, name, ""));
    Some((cluster, hosts))
}

#[test]
fn one_sheet_is_good_on_all_hosts_and_each_code_works_once() {
    let Some((_cluster, [admin, one, two])) = fleet() else { return };
    let codes = admin.generate().codes;
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    for host in [&one, &two, &admin] {
        assert_eq!(host.world.try_answer(&codes[0]), pam::AUTH_ERR, "spent on the first host");
        assert!(host.world.last_line().text.contains("was used before"), "{:?}", host.world.last_line());
    }
    assert_eq!(two.world.try_answer(&codes[1]), pam::SUCCESS);
    assert_eq!(one.world.try_answer(&codes[2]), pam::SUCCESS);
    let status = two.world.status();
    assert_eq!(status["left"], 7);
    let hosts: Vec<_> = (0..3).map(|at| status["codes"][at]["host"].as_str().unwrap().to_owned()).collect();
    assert_eq!(hosts, ["host1", "host2", "host1"]);
}

#[test]
fn of_simultaneous_logins_on_two_hosts_with_one_code_exactly_one_gets_in() {
    let Some((_cluster, [admin, one, two])) = fleet() else { return };
    for code in admin.generate().codes {
        let attempts: Vec<_> =
            (0..4).flat_map(|_| [&one, &two]).map(|host| host.world.attempt(&[(&code).into()])).collect();
        let codes = race(&attempts).into_iter().map(|outcome| outcome.unwrap().codes[0]);
        let accepted = codes.filter(|&code| code == pam::SUCCESS).count();
        assert_eq!(accepted, 1, "of 8 logins with one code");
    }
}

#[test]
fn a_new_set_ends_the_old_one_on_all_hosts() {
    let Some((_cluster, [admin, one, two])) = fleet() else { return };
    let old = admin.generate();
    let new = admin.generate();
    for (host, number) in [(&one, 0), (&two, 1)] {
        assert_eq!(host.world.try_answer(&old.codes[number]), pam::AUTH_ERR);
        assert_eq!(host.world.try_answer(&new.codes[number]), pam::SUCCESS);
    }
    assert!(admin.world.admin(&["revoke", &me()]).status.success());
    assert_eq!(two.world.try_answer(&new.codes[2]), pam::AUTH_ERR);
}

#[test]
fn a_host_may_not_replace_sets_and_says_so_before_it_shows_a_sheet() {
    let Some((_cluster, [admin, one, _])) = fleet() else { return };
    let codes = admin.generate().codes;
    for arguments in [&["generate", "--yes"][..], &["revoke"], &["email"]] {
        let output = one.world.admin(
            &[arguments, &[&me()], &["a@example.org"][..usize::from(arguments[0] == "email")]].concat(),
        );
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(3) && output.stdout.is_empty(), "{arguments:?}: {said}");
        assert!(
            said.contains("this host cannot sign sets (the certificate is of host1")
                || said.contains("may not do that"),
            "{arguments:?}: {said}"
        );
    }
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS, "all is as it was");
}

#[test]
fn with_all_nodes_down_a_set_on_the_host_works_and_nothing_else_does() {
    let Some((cluster, [admin, one, two])) = fleet() else { return };
    let shared = admin.generate().codes;
    let own = sheet(one.world.admin(&["generate", "--host", "--yes", "--format", "json", &me()])).codes;
    // The set on the host goes first.
    assert_eq!(one.world.try_answer(&shared[0]), pam::AUTH_ERR);
    assert_eq!(two.world.try_answer(&shared[0]), pam::SUCCESS);
    two.world.stack("nullok");
    (0..3).for_each(|node| cluster.kill(node));
    assert_eq!(one.world.try_answer(&own[0]), pam::SUCCESS);
    assert_eq!(one.world.try_answer(&own[0]), pam::AUTH_ERR);
    // Also with nullok: nothing is proven.
    assert_eq!(two.world.try_answer(&shared[1]), pam::AUTHINFO_UNAVAIL);
    assert_eq!(two.world.last_line().level, level::ERROR);
    two.host.kill();
    assert_eq!(two.world.try_answer(&shared[1]), pam::AUTHINFO_UNAVAIL);
    assert!(two.world.last_line().text.contains("systemctl enable --now backupcodes-fleet.socket"));
    // With a majority all is as before.
    (0..2).for_each(|node| cluster.restart(node));
    two.host.start();
    assert_eq!(two.world.try_answer(&shared[1]), pam::SUCCESS);
}

#[test]
fn a_sheet_says_whether_its_codes_are_good_on_one_host_or_on_all() {
    let Some((_cluster, [admin, ..])) = fleet() else { return };
    let (host, me) = (nix::unistd::gethostname().unwrap().into_string().unwrap(), me());
    for (options, shown) in [(&[][..], format!("{host} and its fleet")), (&["--host"], host.clone())] {
        for format in ["text", "html", "csv"] {
            let arguments = [&["generate", "--yes", "--format", format], options, &[me.as_str()]].concat();
            let sheet = text(&admin.world.admin(&arguments).stdout);
            let is_named = sheet.contains(&shown) && (sheet.contains("and its fleet") == options.is_empty());
            assert!(is_named, "{arguments:?}: {sheet}");
        }
    }
    // What is no set on the host is replaced there.
    std::fs::write(admin.world.file(), "junk").unwrap();
    let sheet = text(&admin.world.admin(&["generate", "--yes", &me]).stdout);
    assert!(sheet.contains(&host) && !sheet.contains("and its fleet"), "{sheet}");
}

#[test]
fn nullok_skips_only_who_has_a_set_neither_on_the_host_nor_in_the_fleet() {
    let Some((_cluster, [admin, one, _])) = fleet() else { return };
    one.world.stack("nullok");
    // Where every module of a stack is skipped, libpam refuses.
    assert_eq!(one.world.attempt(&[]).run().codes, [pam::PERM_DENIED]);
    let codes = admin.generate().codes;
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    assert_eq!(one.world.try_answer(&codes[0]), pam::AUTH_ERR);
}

#[test]
fn where_hosts_number_accounts_differently_a_set_belongs_to_the_name_if_the_configuration_says_so() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host1", "host2"]);
    let [admin, one, two] = [(ADMIN, ""), ("host1", ""), ("host2", "uid = \"any\"\n")]
        .map(|(name, lines)| LoginHost::of(Host::new(&cluster, name), "").with(lines));
    let me = me();
    let codes = admin.generate().codes;
    // As from a host on which the account has another number.
    let store = admin.host.store();
    let set = backupcodes_core::store::Store::read(&store, &me).unwrap().unwrap();
    let label = backupcodes_core::set::Label { uid: set.label.uid + 1, ..set.label.clone() };
    let entries = set.entries().map(|(_, entry)| entry.state.text());
    let moved = backupcodes_core::set::CodeSet::render_entries(
        &backupcodes_core::set::Label { set: "00000001".into(), ..label },
        entries,
    );
    fleet::replace(&admin.host, &me, &set.label.set, &moved);
    assert_eq!(one.world.try_answer(&codes[0]), pam::AUTHINFO_UNAVAIL, "another account's");
    assert_eq!(two.world.try_answer(&codes[0]), pam::SUCCESS);
}

impl LoginHost {
    /// With more lines in the section `[fleet]`.
    fn with(self, lines: &str) -> Self {
        self.world.configure(&format!("{}{}{lines}", backupcodes_tests::CHEAP, self.host.settings()));
        self
    }
}

#[test]
fn doctor_counts_sets_of_the_fleet_and_reports_what_is_wrong_with_it() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    admin.generate();
    let checks = |host: &LoginHost| {
        let output = host.world.admin(&["doctor", "--format", "json"]);
        let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("a list");
        let mine = found.iter().map(|found| found["check"].as_str().unwrap().to_owned());
        mine.filter(|check| check.starts_with("fleet-")).collect::<Vec<_>>()
    };
    assert!(checks(&one).is_empty(), "{:?}", checks(&one));
    let status = one.host.store().status().unwrap();
    assert!(status.nodes.iter().all(|node| node.time.is_some()), "a node does not say its time");
    assert_eq!(status.certificates.len(), 2);
    cluster.kill(2);
    assert_eq!(checks(&one), ["fleet-node"]);
    cluster.kill(1);
    assert!(checks(&one).contains(&"fleet-unreachable".into()));
    assert!(!one.world.admin(&["fleet", "status"]).status.success());
    let said = text(&one.world.admin(&["status"]).stderr);
    assert!(said.contains("no majority of the nodes") && !said.contains("there are no sets"), "{said}");
}

#[test]
fn a_host_that_was_not_added_says_so() {
    let Some((cluster, [admin, _, _])) = fleet() else { return };
    let codes = admin.generate().codes;
    let stranger = LoginHost::new(&cluster, "host3", "");
    let output = stranger.world.admin(&["fleet", "status"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("no code can be used here") && said.contains("backupcodes-admin fleet host add"),
        "{said}"
    );
    assert_eq!(stranger.world.try_answer(&codes[0]), pam::AUTHINFO_UNAVAIL);
}
