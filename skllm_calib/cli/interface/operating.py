"""The commands of ``queue`` and ``monitor``."""

import rich_click as click

from skllm_calib.cli.interface import shared, values
from skllm_calib.cli.interface.declare import FILE, Named, argument, command, commands, switch
from skllm_calib.cli.interface.declare import option as opt

path = argument("queue", "The file of the queue.", FILE)
written = argument("file", "Rows that 'predict' or 'decide' wrote, or -.", FILE)
reviewer = opt("--reviewer", "NAME", "Who says so.", required=True)
queue = commands(
    "queue", "Keep rows for people to label, and see what their labels say about accepted rows.",
    """queue add review.sqlite decided.csv --text text
    queue serve review.sqlite
    queue export review.sqlite labels.csv""",
    [command(
        "add", "queue:add",
        "Add the rows of a file to a queue, which is made if there is none. Rows to review wait "
        "for a person, and so do a random sample of the accepted ones and rows where the model "
        "failed. The same row again changes nothing; the same id with another content is an error "
        "without --replace.",
        """queue add review.sqlite decided.csv --text text
        # a file without ids, and actions of your own
        queue add review.sqlite may.csv --text text --number-rows may --take-as escalate review""",
        [path, written],
        {"Rows": [
            shared.text, opt("--id", "COL", "Column that identifies each row [default: id]."),
            opt("--number-rows", "PREFIX", "No such column: call them PREFIX-1, PREFIX-2, ..."),
            opt("--evidence", "COL", "Another column that reviewers may look at; can be repeated.",
                multiple=True), *shared.reading],
         "Review": [
            switch("--review-all", "Ask about every row, whatever the column 'action' says."),
            opt("--take-as", "OWN ACTION", "What an action of your own means: accept, review or "
                "reject; can be repeated.", nargs=2, multiple=True),
            opt("--audit-share", "P", "Share of accepted rows that a person looks at, from now on "
                "[0.05 in a new queue].", values.share),
            switch("--replace", "Let rows replace those with the same id.")]},
        not_both=[("id", "number_rows")],
     ), command(
        "status", "queue:status",
        "Show how many rows wait, are done or disputed, and how many accepted rows are wrong.",
        "queue status review.sqlite\nqueue status review.sqlite --json -",
        [path], {"Result": [shared.json]},
     ), command(
        "serve", "queue:serve",
        "Serve a page on this machine for reviewers to label with, until Ctrl-C. Its address is "
        "printed. It holds a secret that is new each time: anyone who has it can label rows.",
        "queue serve review.sqlite\nqueue serve review.sqlite --port 8000", [path],
        {"Server": [opt("--port", "N", "Port [default: a free one].", values.port)]},
     ), command(
        "hand-out", "queue:hand_out",
        "Write rows that wait to a file, whose column 'label' a reviewer fills in and 'take-in' "
        "reads. The rows keep waiting until then.",
        "queue hand-out review.sqlite ann.xlsx --n 50",
        [path, argument("out", "Table for the reviewer, or -.", FILE)],
        {"Rows": [
            opt("--n", "N", "At most this many [default: all that wait].",
                values.count_or_all),
            opt("--order", "doubt|added", "The most doubtful first, or as they came.",
                click.Choice(["doubt", "added"]), "doubt"),
            switch("--force", "Replace OUT, and labels that may be in it.")]},
     ), command(
        "take-in", "queue:take_in",
        "Take labels from a file: what 'hand-out' wrote, or any other with the columns id and "
        "label. Rows without a label are skipped. Rows that cannot be used are listed, the others "
        "are kept, and the exit code is 1.",
        "queue take-in review.sqlite ann.xlsx --reviewer Ann",
        [path, argument("file", "Table with the columns id and label, or -.", FILE)],
        {"Rows": [opt("--reviewer", "NAME", "Who labelled, where FILE does not say."),
                  *shared.reading]},
     ), command(
        "label", "queue:label", "Keep what a reviewer says of one row.",
        """queue label review.sqlite "invoice 17" trousers --reviewer Bob
        # settle a dispute
        queue label review.sqlite "invoice 17" trousers --reviewer Bob --final""",
        [path, argument("id", "The row."), argument("label", "What it is.")],
        {"Label": [reviewer, switch("--final", "Count this alone, where reviewers disagree.")]},
     ), command(
        "undo", "queue:undo", "Take back the last label of a reviewer; again, the one before.",
        "queue undo review.sqlite --reviewer Bob", [path], {"Label": [reviewer]},
     ), command(
        "export", "queue:export",
        "Write the rows that people were asked about and agree on, to calibrate with: id, text, "
        "label, weight and probabilities. The weight is one over the probability with which a "
        "person was to see the row.",
        """queue export review.sqlite labels.csv
        calibrate labels.csv --text text --label label --weight weight --n-rows all ...""",
        [path, argument("out", "Table to write, in the format of its extension, or -.", FILE)], {},
     )],
)  # fmt: skip

state = argument("state", "The file of the monitor, such as m.json.", FILE)
fingerprint = opt("--fingerprint", "TEXT", "What identifies the model as it is served.")
true_label = opt("--label", "COL", "Column with the true labels, where they are known; not what "
                 "the model predicted.")  # fmt: skip
monitor = commands(
    "monitor",
    "Watch whether a calibration still holds: new rows and labels in, alarms out. The exit code of "
    "update, labels and status is 3 while there is an alarm that 'reset' has not acknowledged.",
    """monitor start monitor.json held-out-answers.csv --label truth
    monitor update monitor.json monday-answers.csv --id id
    monitor labels monitor.json monday-labels.csv --id id --label truth
    monitor status monitor.json""",
    [command(
        "start", "monitor:start",
        "Learn from held-out rows what calm looks like, and begin to watch. The rows must not have "
        "calibrated the classifier. With labels, a calibration that is off already is warned of. "
        "After a recalibration, start anew with --force.",
        """monitor start monitor.json held-out-answers.csv --label truth
        # for labels of a review queue
        monitor start m.json held-out.csv --label truth --max-weight 20 --detectors e_detector""",
        [state, written],
        {"Rows": [true_label, shared.weight, *shared.reading],
         "Monitor": [
            opt("--detectors", "A,B", "Detectors to use: cusum, e_detector, confidences, "
                "predicted_labels [default: all].",
                Named("operations.monitor.alarms:DETECTORS", several=True)),
            opt("--average-run-length", "N", "Mean number of labels until a false alarm, for each "
                "detector [default: 10,000].", float),
            opt("--unlabelled-run-length", "N", "The same in rows, for detectors that need no "
                "labels [default: 100,000].", float),
            opt("--tolerance", "P", "Gap between confidence and accuracy that is no reason for an "
                "alarm [default: 0.01].", float),
            opt("--drift", "P", "Gap that 'cusum' is to find soonest; above the tolerance "
                "[default: 0.06].", float),
            opt("--max-weight", "X", "Largest weight of a labelled row to come [default: that of "
                "the reference rows].", float),
            opt("--max-pending", "N", "Rows that may wait for a label; the oldest are dropped "
                "[default: 100,000].", int),
            fingerprint, switch("--force", "Replace a STATE that exists.")]},
     ), command(
        "update", "monitor:update",
        "Take new rows, each once and in the order in which they were classified. Rows that failed "
        "are left out. Exit code 3: there is an alarm.",
        "monitor update monitor.json monday-answers.csv --id id", [state, written],
        {"Rows": [shared.row_id, true_label, shared.weight, *shared.reading],
         "Monitor": [fingerprint]},
     ), command(
        "labels", "monitor:labels",
        "Take labels of rows that came with 'update --id', in the order in which they arrived. "
        "Rows without a label are skipped. Exit code 3: there is an alarm.",
        "monitor labels monitor.json monday-labels.csv --id id --label truth --ignore-unknown",
        [state, argument("file", "Table with an id and a label, or -.", FILE)],
        {"Rows": [
            opt("--id", "COL", "Column with the ids given to 'update --id'.", required=True),
            opt("--label", "COL", "Column with the true labels.", required=True),
            opt("--weight", "COL", "Column with weights, in place of those of the rows."),
            switch("--ignore-unknown", "Skip ids that do not wait for a label, such as those "
                   "labelled before."), *shared.reading]},
     ), command(
        "status", "monitor:status",
        "Show the state and the alarms. Exit code 3: there is an alarm.",
        """monitor status monitor.json
        monitor status monitor.json --prometheus monitor.prom --prometheus-label model=customs""",
        [state],
        {"Result": [
            shared.json,
            opt("--prometheus", "FILE", "Write it in the text format of Prometheus; - for standard "
                "output.", FILE),
            opt("--prometheus-label", "NAME=VALUE", "A label of every sample; can be repeated.",
                values.pair, multiple=True)]},
     ), command(
        "reset", "monitor:reset",
        "Acknowledge the alarms and keep monitoring with the same reference. After a recalibration "
        "the probabilities are others: use 'start --force' then.",
        "monitor reset monitor.json", [state], {},
     )],
)  # fmt: skip
