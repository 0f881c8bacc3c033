//! A daemon that hangs and goes on: one of our own, and GoBGP.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tokio::time::timeout;

use super::gobgp::{Server, announce, route, serve, speaker};
use crate::announce::gobgp::GobgpSpeaker;
use crate::announce::speaker::{Said, Speaker};

/// Longer than it takes to see that a process hangs, and shorter than what a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(speaker: &mut GobgpSpeaker) {
    let connected = async {
        while speaker.connect().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, connected).await.unwrap();
}

async fn lost(speaker: &mut GobgpSpeaker) {
    while !matches!(speaker.said().await, Said::Lost(_)) {}
}

/// A server that stops altogether, until it is told to go on.
fn serve_apart(
    socket: &Path,
) -> (
    tokio::sync::mpsc::Sender<std::sync::mpsc::Receiver<()>>,
    std::thread::JoinHandle<()>,
) {
    let (sender, mut pauses) = tokio::sync::mpsc::channel::<std::sync::mpsc::Receiver<()>>(1);
    let path = socket.to_owned();
    let (ready, begun) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let _task = serve(Server::default(), &path);
            ready.send(()).unwrap();
            while let Some(pause) = pauses.recv().await {
                // Nothing else of it runs meanwhile.
                let _ = pause.recv();
            }
        });
    });
    begun.recv().unwrap();
    (sender, thread)
}

/// Who waits for an answer hears it, too, and does not wait for the minute that a large request may take.
#[tokio::test]
async fn a_process_that_hangs_is_lost_in_the_middle_of_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gobgp.sock");
    let (pauses, thread) = serve_apart(&socket);
    let mut speaker = speaker(&socket);
    connect(&mut speaker).await;
    let change = [announce("2001:db8:100::/48")];
    speaker.apply(&change).await.unwrap();
    let (go_on, pause) = std::sync::mpsc::channel();
    pauses.send(pause).await.unwrap();
    // The pause begins with the next turn of its runtime.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = timeout(PATIENCE, speaker.apply(&change)).await.unwrap();
    assert_eq!(answer.unwrap_err(), "it does not answer");
    assert_eq!(speaker.list().await.unwrap_err(), "there is no connection");
    let error = timeout(PATIENCE, speaker.connect()).await.unwrap().unwrap_err();
    assert!(error.contains("nobody answers"), "{error}");
    go_on.send(()).unwrap();
    connect(&mut speaker).await;
    let listed = speaker.list().await.unwrap();
    assert_eq!(listed, [(change[0].prefix, route())].into());
    drop((pauses, speaker));
    thread.join().unwrap();
}

/// A gobgpd without neighbours, which ends with the test.
struct Gobgpd(Child);

impl Drop for Gobgpd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Gobgpd {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

/// GoBGP itself: it lives as long as it says so, hangs with SIGSTOP, and has what it had with SIGCONT. Needs gobgpd (Debian package
/// `gobgpd`).
#[tokio::test]
async fn gobgp_hangs_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gobgp.sock");
    let configuration = directory.path().join("gobgp.toml");
    let global = "[global.config]\nas = 65001\nrouter-id = \"192.0.2.1\"\nport = -1\n";
    std::fs::write(&configuration, global).unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let process = Command::new("gobgpd")
        .arg("-f")
        .arg(&configuration)
        .arg(format!("--api-hosts=unix://{}", socket.display()))
        .arg("--pprof-disable")
        .stdout(log)
        .spawn()
        .expect("gobgpd, of the Debian package of this name");
    let gobgpd = Gobgpd(process);
    let mut speaker = speaker(&socket);
    connect(&mut speaker).await;
    // It takes no routes before it has read its configuration.
    let change = [announce("2001:db8:100::/48")];
    while speaker
        .apply(&change)
        .await
        .is_ok_and(|results| results[0].1.is_err())
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let had = speaker.list().await.unwrap();
    assert_eq!(had.keys().collect::<Vec<_>>(), [&change[0].prefix]);
    // It is asked several times whether it lives, and does not mind.
    let lives = timeout(Duration::from_secs(10), lost(&mut speaker)).await;
    assert!(lives.is_err(), "the connection has ended");
    gobgpd.signal("-STOP");
    timeout(PATIENCE, lost(&mut speaker)).await.unwrap();
    let error = timeout(PATIENCE, speaker.connect()).await.unwrap().unwrap_err();
    assert!(error.contains("nobody answers"), "{error}");
    gobgpd.signal("-CONT");
    connect(&mut speaker).await;
    assert_eq!(speaker.list().await.unwrap(), had);
    let results = speaker.apply(&[announce("2001:db8:200::/48")]).await.unwrap();
    assert_eq!(results[0].1, Ok(()));
    assert_eq!(speaker.list().await.unwrap().len(), 2);
}
