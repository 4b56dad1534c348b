<?php

namespace App\Providers;

use App\Broadcasting\SignedRedisBroadcaster;
use Illuminate\Support\Facades\Broadcast;
use Illuminate\Support\ServiceProvider;

/** Makes `'driver' => 'slapback'` known to config/broadcasting.php. */
class SlapbackServiceProvider extends ServiceProvider
{
    public function boot(): void
    {
        Broadcast::extend('slapback', fn ($app, array $config) => new SignedRedisBroadcaster(
            $app->make('redis'),
            $config['connection'] ?? null,
            $app['config']->get('database.redis.options.prefix', ''),
            $config['key'],
            $config['secret'],
        ));
    }
}
