//! The papers: their commands are run as they stand there, and what they show is what comes out.
//!
//! A fenced `sh` block is run. The fenced `text` block right below it is all that it prints; a block
//! without one prints nothing. In what is shown, `…` stands for one or more characters of a line,
//! and a line that is only `…` for any number of lines.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rstest::rstest;
use tempfile::TempDir;

use crate::support::{DEADLINE, Database, Home, http_client};

#[rstest]
#[case::readme("README.md")]
#[case::guide("docs/guide.md")]
#[case::namespaces("docs/namespaces.md")]
#[case::signatures("docs/signatures.md")]
#[case::dids("docs/dids.md")]
#[case::records("docs/records.md")]
#[tokio::test]
async fn what_a_paper_shows_comes_out(#[case] paper: &str) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(paper)).unwrap();
    let (api, ops) = (free_port(), free_port());
    let text = text
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{api}"))
        .replace("127.0.0.1:9464", &format!("127.0.0.1:{ops}"));
    let steps = steps(&text);
    assert!(!steps.is_empty(), "{paper} has no commands");
    let mut shell = Shell::start(api, ops);
    for step in steps {
        let printed = shell.run(&step.commands, |printed| matches(&step.shown, printed)).await;
        if let Err(printed) = printed {
            let (line, shown) = (step.line, step.shown);
            panic!("{paper}:{line}: these commands show\n{shown}\nbut print\n{printed}");
        }
    }
}

#[tokio::test]
async fn the_chapter_on_metrics_has_them_all() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    let url = format!("http://{}/metrics", serving.ops);
    let answer = http_client().build().unwrap().get(url).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE onceguard_"));
    let names: Vec<_> = names.map(|rest| rest.split(' ').next().unwrap()).collect();
    assert!(!names.is_empty(), "{text}");
    for name in names {
        let begins = format!("`onceguard_{name}");
        let whole = page.split(&begins).skip(1).any(|rest| rest.starts_with(['`', '{']));
        assert!(whole, "onceguard_{name} is not in docs/metrics.md");
    }
}

struct Step {
    /// Where its commands begin.
    line: usize,
    commands: String,
    shown: String,
}

fn steps(paper: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = paper.lines().enumerate();
    // Whether the line before ended a block of commands.
    let mut ended = false;
    while let Some((number, line)) = lines.next() {
        let mut block = || {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            inside.flat_map(|line| [line, "\n"]).collect::<String>()
        };
        match line {
            "```sh" => {
                let (line, shown) = (number + 2, String::new());
                steps.push(Step { line, commands: block(), shown });
                ended = true;
            }
            "```text" if ended => {
                steps.last_mut().unwrap().shown = block();
                ended = false;
            }
            _ => {
                if line.starts_with("```") {
                    block();
                }
                ended = false;
            }
        }
    }
    steps
}

/// Whether this is what is shown, with something for every `…`.
fn matches(shown: &str, printed: &str) -> bool {
    let Some((before, after)) = shown.split_once('…') else { return shown == printed };
    let Some(rest) = printed.strip_prefix(before) else { return false };
    let whole_line = (before.is_empty() || before.ends_with('\n')) && after.starts_with('\n');
    if whole_line {
        let after = &after[1..];
        let mut ends = rest.match_indices('\n').map(|(at, _)| at + 1);
        return matches(after, rest) || ends.any(|end| matches(after, &rest[end..]));
    }
    let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
    line.char_indices().any(|(at, c)| matches(after, &rest[at + c.len_utf8()..]))
}

/// Not one that a test is given when it asks for any: while the service restarts, its port is free.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A shell in an empty folder. All that it started is killed when it is dropped.
struct Shell {
    folder: TempDir,
    child: Child,
    input: ChildStdin,
    /// How much of the output belongs to earlier commands.
    read: usize,
}

/// What the shell prints when commands have ended.
const ENDED: &str = "\u{4}\n";

impl Shell {
    fn start(api: u16, ops: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_onceguard")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let output = File::create(folder.path().join("printed")).unwrap();
        let home = folder.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let mut child = Command::new("sh")
            .current_dir(&home)
            .env_clear()
            .env("PATH", format!("{}:{path}", binary.display()))
            .env("ONCEGUARD_SERVER__LISTEN", format!("127.0.0.1:{api}"))
            .env("ONCEGUARD_OPS__LISTEN", format!("127.0.0.1:{ops}"))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        Self { folder, child, input, read: 0 }
    }

    /// Runs commands, and waits until they have ended and printed what is wanted; a service in the
    /// background may print after they ended.
    ///
    /// # Errors
    /// What they printed instead.
    async fn run(&mut self, commands: &str, wanted: impl Fn(&str) -> bool) -> Result<(), String> {
        writeln!(self.input, "{commands}printf '\\004\\n'").unwrap();
        let file = self.folder.path().join("printed");
        let printed = || {
            let all = std::fs::read_to_string(&file).unwrap();
            (all.len(), all[self.read..].replace('\r', ""))
        };
        let mut length = 0;
        let right = async {
            loop {
                let (all, printed) = printed();
                if printed.contains(ENDED) && wanted(&printed.replacen(ENDED, "", 1)) {
                    length = all;
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, right).await.is_err() {
            return Err(printed().1);
        }
        self.read = length;
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}
