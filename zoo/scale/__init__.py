"""Jobs: predictions or features of any number of photos, by any number of processes, each once.

    sources    what a job is pointed at, one photo after the other
    plan       the photos in shards, written once and never changed, under an id
    answers    what is computed of a photo: a row of `zoo predict`, or of `zoo embed`
    work       shards to parts: what is there is skipped, who is quicker wins
    head       a fine-tune on the features of a job, in memory or from a file: a head, or more;
               `listed` says which photos are for what, `copied` has their features here, `team`
               the processes that solve a head
    estimate   how long it takes, from some photos that are measured
    web        photos at http(s) addresses
    apart      the search for a photo that ends processes
    parts      a part in Parquet, and whether it is what the plan says
    store      a folder or a bucket, in which files appear whole and are never replaced

No locks, no leader, no database: a shard is done where its part is there, and a part appears in one
step (`Store.create`), so it does not matter who works on what, how often, and how that ends.
"""
