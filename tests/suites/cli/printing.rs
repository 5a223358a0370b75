//! `generate --print` with a real CUPS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use backupcodes_tests::machine::run;
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::{World, me, pam, text};

const SPOOL: &str = "/var/spool/cups";

/// A scheduler with the printer `office`, whose paper is a file.
struct Cups(Child);

impl Cups {
    fn start(world: &World, settings: &str) -> Self {
        let [files, conf, paper] = ["cups-files.conf", "cupsd.conf", "paper"].map(|name| world.path(name));
        fs::write(&files, "FileDevice Yes\nSandboxing relaxed\nSystemGroup root\n").unwrap();
        let open = "<Location />\nAllow all\n</Location>\n<Policy default>\n<Limit All>\nAllow all\n</Limit>\n</Policy>\n";
        let listen = "Listen /run/cups/cups.sock\nBrowsing No\nWebInterface No\n";
        fs::write(&conf, format!("{listen}{settings}\n{open}")).unwrap();
        fs::create_dir_all("/run/cups").unwrap();
        let _ = fs::remove_file("/run/cups/cups.sock");
        let child =
            Command::new("cupsd").arg("-f").arg("-c").arg(&conf).arg("-s").arg(&files).spawn().unwrap();
        let cups = Self(child);
        wait_until("CUPS", || Path::new("/run/cups/cups.sock").exists());
        let device = format!("file://{}", paper.display());
        wait_until("a printer", || {
            let mut lpadmin = Command::new("lpadmin");
            let added = lpadmin.args(["-p", "office", "-E", "-m", "raw", "-v", &device]).output().unwrap();
            added.status.success()
        });
        cups
    }
}

impl Drop for Cups {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What CUPS has of its jobs: `d` files are what is to be printed.
fn spooled() -> Vec<PathBuf> {
    let files = fs::read_dir(SPOOL).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with('d')).collect()
}

fn doctor_notes_the_spool(world: &World) -> bool {
    text(&world.admin(&["doctor"]).stdout).contains("/etc/cups/cupsd.conf: PreserveJobFiles is")
}

#[test]
fn a_sheet_goes_only_to_the_printer_and_what_cups_keeps_is_reported() {
    let Some(world) = World::of_root("") else { return };
    {
        let _cups = Cups::start(&world, "");
        let output = world.admin(&["generate", &me(), "--print", "office"]);
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
        wait_until("a job", || spooled().len() == 1);
        let sheet = fs::read_to_string(&spooled()[0]).unwrap();
        let code =
            sheet.split_whitespace().find(|word| word.matches('-').count() == 2 && word.len() == 17).unwrap();
        assert!(sheet.starts_with("BACKUP CODES FOR LOGGING IN\n") && sheet.contains(&me()), "{sheet}");
        let jobs = run(Command::new("lpstat").args(["-W", "all", "-l", "-o", "office"]), "");
        assert!(!jobs.contains(code), "{jobs}");
        assert_eq!(world.try_answer(code), pam::SUCCESS);

        // A printer that is not there: the old set is as it was.
        let again = sheet
            .split_whitespace()
            .rfind(|word| word.matches('-').count() == 2 && word.len() == 17)
            .unwrap();
        let output = world.admin(&["generate", "--yes", &me(), "--print", "nowhere"]);
        let complaint = text(&output.stderr);
        assert!(
            output.status.code() == Some(3)
                && complaint.contains("lpstat -p")
                && complaint.contains("is unchanged"),
            "{complaint}"
        );
        assert_eq!(world.try_answer(again), pam::SUCCESS);
        assert!(!world.other_files().iter().any(|file| file.contains("BACKUP")));
    }
    // By default CUPS keeps it, long after it was printed.
    assert_eq!(spooled().len(), 1);
    fs::write("/etc/cups/cupsd.conf", "").unwrap();
    assert!(doctor_notes_the_spool(&world));

    spooled().iter().for_each(|file| fs::remove_file(file).unwrap());
    fs::write("/etc/cups/cupsd.conf", "PreserveJobFiles No\n").unwrap();
    assert!(!doctor_notes_the_spool(&world));
    let _cups = Cups::start(&world, "PreserveJobFiles No");
    assert!(world.admin(&["generate", "--yes", &me(), "--print", "office"]).status.success());
    wait_until("an empty spool", || spooled().is_empty());
}

#[test]
fn without_lp_the_old_set_stays_and_the_way_out_is_named() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let mut command = world.admin_command();
    command.args(["generate", "--yes", &me(), "--print"]).env("PATH", world.path("nothing"));
    let output = command.output().unwrap();
    let complaint = text(&output.stderr);
    assert!(
        output.status.code() == Some(3)
            && complaint.contains("lp cannot be started")
            && complaint.contains("CUPS"),
        "{complaint}"
    );
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
}
