<?php

// Laravel's own broadcasting, set up as an application has it: its redis broadcaster, with the
// class that deploy/laravel gives to applications, on the Redis of the environment.

foreach (['Broadcasting', 'Container', 'Http', 'Redis', 'Routing'] as $part) {
    require_once "Illuminate/$part/autoload.php";
}
require_once __DIR__.'/../../../deploy/laravel/SignedRedisBroadcaster.php';

use App\Broadcasting\SignedRedisBroadcaster;
use Illuminate\Container\Container;
use Illuminate\Redis\RedisManager;

const PREFIX = 'laravel_database_';

function broadcaster(): SignedRedisBroadcaster
{
    $container = Container::getInstance();
    $redis = new RedisManager($container, 'phpredis', [
        'options' => ['prefix' => PREFIX],
        'default' => ['host' => '127.0.0.1', 'port' => (int) getenv('REDIS_PORT'), 'database' => 0],
    ]);

    return new SignedRedisBroadcaster(
        $redis,
        'default',
        PREFIX,
        getenv('REVERB_APP_KEY'),
        getenv('REVERB_APP_SECRET'),
    );
}
