<?php

// Publishes what each line of standard input says, `{"channels":[…],"event":…,"data":{…}}`, as
// `broadcast(new Event)` does, and answers each with a line. `{"times":n}` in a line publishes it so
// often, the number counted up in `data.n`.

require __DIR__.'/broadcaster.php';

$broadcaster = broadcaster();
while (($line = fgets(STDIN)) !== false) {
    $said = json_decode($line, true);
    for ($n = 0; $n < ($said['times'] ?? 1); $n++) {
        $data = isset($said['times']) ? ['n' => $n] + $said['data'] : $said['data'];
        $broadcaster->broadcast($said['channels'], $said['event'], $data);
    }
    echo "published\n";
}
