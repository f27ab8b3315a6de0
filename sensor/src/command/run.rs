//! `sensor run`
use std::process::ExitCode;
#[derive(Debug, clap::Args)]
pub struct Args {}
pub fn run(_args: Args) -> ExitCode {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let mut watch = crate::watch::Watch::start(
            Default::default(),
            &[(sensor_abi::name::key_of_name(b".pt"), 1), (sensor_abi::name::key_of_name(b".pth"), 1)],
            std::time::Duration::from_millis(500),
            Box::new(|_| crate::event::Role::Loader),
        )
        .unwrap();
        eprintln!("ready");
        loop {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(200), watch.readable()).await;
            while watch.take() {}
            for a in watch.asks() {
                eprintln!("{a:?}");
                if let crate::watch::Ask::Look(l) = a {
                    watch.word(
                        l.inode,
                        l.stamp,
                        crate::watch::Word::Sniffed { class: crate::event::ContentClass::Code, format: None },
                    );
                }
            }
            for a in watch.due() {
                eprintln!("{a:#?}");
            }
            for l in watch.losses() {
                eprintln!("{l:?}");
            }
        }
    });
    ExitCode::SUCCESS
}
