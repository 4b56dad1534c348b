<?php

namespace App\Broadcasting;

use Illuminate\Broadcasting\Broadcasters\RedisBroadcaster;
use Illuminate\Contracts\Redis\Factory as Redis;

/**
 * Laravel's redis broadcaster, with an answer to /broadcasting/auth that is signed: without a
 * signature nobody is let into a private or presence channel.
 */
class SignedRedisBroadcaster extends RedisBroadcaster
{
    public function __construct(
        Redis $redis,
        ?string $connection,
        string $prefix,
        private string $key,
        private string $secret,
    ) {
        parent::__construct($redis, $connection, $prefix);
    }

    public function validAuthenticationResponse($request, $result)
    {
        $answer = json_decode(parent::validAuthenticationResponse($request, $result), true);
        $signed = [$request->socket_id, $request->channel_name];
        $member = [];
        if (isset($answer['channel_data'])) {
            // A user's id is text to the clients, as it is with Laravel's pusher broadcaster.
            $answer['channel_data']['user_id'] = (string) $answer['channel_data']['user_id'];
            $member['channel_data'] = json_encode($answer['channel_data']);
            $signed[] = $member['channel_data'];
        }
        $signature = hash_hmac('sha256', implode(':', $signed), $this->secret);

        return ['auth' => "{$this->key}:{$signature}"] + $member;
    }
}
