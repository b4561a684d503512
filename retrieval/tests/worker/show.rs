//! What is extracted from files, printed for people.

use std::path::Path;

use crate::support::World;

pub(crate) async fn run(world: &World, files: &[String]) {
    for file in files {
        let path = Path::new(file);
        let name = path.file_name().and_then(|name| name.to_str()).expect("a file name");
        println!("== {file}");
        match world.extract(name, std::fs::read(path).expect("a file")).await {
            Ok((found, text)) => {
                println!("{found:#?}");
                for block in &text.blocks {
                    let path = text.path(block.section).join(" > ");
                    println!("{:?} {:?} in {path} on {:?}", block.kind, text.slice(block), block.page);
                }
            }
            Err(failure) => println!("{failure:#?}"),
        }
    }
}
