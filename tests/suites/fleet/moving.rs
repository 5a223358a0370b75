//! Sets that move from a host into the fleet.

use backupcodes_tests::{me, pam, text};

use super::logins::fleet;

#[test]
fn a_set_that_is_imported_keeps_its_sheet_and_what_was_spent() {
    let Some((_cluster, [admin, one, _])) = fleet() else { return };
    let own = ["generate", "--host", "--yes", "--format", "json"];
    let codes = backupcodes_tests::sheet(admin.world.admin(&[&own[..], &[&me()]].concat())).codes;
    assert_eq!(admin.world.try_answer(&codes[0]), pam::SUCCESS);
    assert_eq!(one.world.try_answer(&codes[1]), pam::AUTH_ERR, "it is another host's");
    let output = admin.world.admin(&["fleet", "import", &me()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!admin.world.file().exists());
    for code in [&codes[0], &codes[1]] {
        let first = one.world.try_answer(code);
        assert_eq!(first == pam::SUCCESS, code == &codes[1]);
        assert_eq!(admin.world.try_answer(code), pam::AUTH_ERR);
    }
    assert_eq!(admin.world.try_answer(&codes[2]), pam::SUCCESS);
    assert_eq!(one.world.status()["left"], 7);
    // Nothing is left to import, and a host may not.
    assert!(!admin.world.admin(&["fleet", "import", &me()]).status.success());
    let output = one.world.admin(&["fleet", "import", "--all"]);
    assert!(text(&output.stderr).contains("may not do that"), "{}", text(&output.stderr));
}
